"""What every rule says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from normswap.findings import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions

Fix = Literal["", "fold"]
"""What removes a finding and is proved safe; empty where nothing is."""

SHOWN = 5
"""Names in a sentence."""


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """A rule in words.

    Attributes
    ----------
    code, name : str
        What users call it: ``NS101`` and ``foldable-batchnorm``.
    level : {"note", "warning", "error"}
    what, why, how : str
        What it finds, why that matters, and how to mend it; sentences.
    fix : {"", "fold"}
        What ``lint --fix`` does about it.
    """

    code: str
    name: str
    level: Level
    what: str
    why: str
    how: str
    fix: Fix


class Rule(ABC):
    """One thing that should not be in a model.

    Attributes
    ----------
    code, name, level, what, why, how, fix
        See :class:`RuleInfo`. Codes are grouped: 1 for what a fold or an export leaves, 2 for
        numbers, 3 for group normalization, 4 for the model as a whole.
    """

    code: str
    name: str
    level: Level = "warning"
    what: str
    why: str
    how: str
    fix: Fix = ""

    @abstractmethod
    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        """Yield what there is of it in a model.

        Parameters
        ----------
        options : LintOptions
            What a project has said of its models.
        """

    def finding(self, message: str, node: str = "", graph: str = "") -> Finding:
        """Return a finding of this rule.

        Parameters
        ----------
        message : str
            What is so; a clause, as what the rule is about is said with it.
        node, graph : str
            Where; left out for what is about the whole model.
        """
        return Finding(self.code, self.name, self.level, message, node, graph, bool(self.fix))

    @property
    def info(self) -> RuleInfo:
        """The rule in words."""
        return RuleInfo(self.code, self.name, self.level, self.what, self.why, self.how, self.fix)


class HealthRule(Rule):
    """A rule about the numbers of a BatchNormalization.

    Attributes
    ----------
    kinds : tuple of str
        The attributes of :class:`normswap.inspection.health.Health` that it tells of.
    """

    kinds: tuple[str, ...]

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        """Yield a finding of each that has something to tell."""
        for layer, health in subject.health:
            told = health.told(*self.kinds)
            if told:
                yield self.finding("; ".join(told), layer.node, layer.graph)


def listed(names: Iterable[str]) -> str:
    """Return the first of some names, for a sentence."""
    every = list(names)
    return ", ".join(every[:SHOWN]) + ", ..." * (len(every) > SHOWN)

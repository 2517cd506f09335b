"""What in models should not be as it is: rules with stable codes, and what of it can be mended."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from normswap.errors import ExitCode, NormswapError, UsageError
from normswap.inspection.subject import Subject
from normswap.lint import config as configuration
from normswap.lint.options import LintOptions
from normswap.lint.rules import rules
from normswap.lint.selection import asked, rule_of
from normswap.model import load
from normswap.model.sources import name_of
from normswap.plain import AsDict
from normswap.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.findings import Finding
    from normswap.lint.rule import RuleInfo
    from normswap.model.sources import Source


@dataclass(frozen=True, slots=True)
class Linted(AsDict):
    """What was found in one model.

    Attributes
    ----------
    source : str
        Its path; what it is called where it has none.
    findings : tuple of Finding
        In the order of their codes.
    rules : tuple of str
        The codes that were asked for.
    fixed : int
        Findings that a fix removed.
    error : str
        Why it could not be looked at; empty where it was.
    error_code : int
        The exit code that this stands for.
    """

    source: str
    findings: tuple[Finding, ...] = ()
    rules: tuple[str, ...] = ()
    fixed: int = 0
    error: str = ""
    error_code: int = 0


@dataclass(frozen=True, slots=True)
class LintReport(AsDict):
    """The problems that were found in models.

    Attributes
    ----------
    models : tuple of Linted
        In the order in which they were given.
    rules : tuple of RuleInfo
        Those that were applied to any of them.
    """

    models: tuple[Linted, ...]
    rules: tuple[RuleInfo, ...]

    SCHEMA: ClassVar[str] = "normswap/lint/1"
    TOLD = ("fixable", "exit_code")

    @property
    def findings(self) -> list[Finding]:
        """Those of all models."""
        return [finding for model in self.models for finding in model.findings]

    @property
    def fixable(self) -> int:
        """How many findings a fix removes."""
        return sum(finding.fixable for finding in self.findings)

    @property
    def exit_code(self) -> ExitCode:
        """How a command that found this ends: a note alone is no finding."""
        found = any(finding.level != "note" for finding in self.findings)
        worst = max((model.error_code for model in self.models), default=0)
        return ExitCode(max(worst, int(found)))


@dataclass(frozen=True, slots=True)
class RulesReport(AsDict):
    """Rules in words."""

    rules: tuple[RuleInfo, ...]

    SCHEMA: ClassVar[str] = "normswap/rules/1"
    TOLD = ("exit_code",)

    @property
    def exit_code(self) -> ExitCode:
        """To read them is no finding."""
        return ExitCode.OK


def lint(
    *models: Source,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    config: str | os.PathLike[str] | LintOptions | None = None,
    fix: bool = False,
    progress: Progress = silent,
) -> LintReport:
    """Find problems in models.

    Each finding belongs to a rule with a stable code; docs/lint.md lists them all.

    Parameters
    ----------
    *models : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        See :func:`normswap.fold`. If one of several can't be read, the rest are still checked.
    select, ignore : sequence of str
        Codes, names or beginnings of codes: ``NS101``, ``foldable-batchnorm``, ``NS2``. `select`
        replaces what the configuration selects, `ignore` adds to what it ignores.
    config : path or LintOptions, optional
        The configuration; by default the nearest ``normswap.toml``, or ``pyproject.toml`` with
        ``[tool.normswap]``, in the folder of a model or above it.
    fix : bool
        Fold in place what can be folded, checked and proved as by :func:`normswap.fold`.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    LintReport
        ``exit_code`` is 1 if there is a finding above the level of a note.

    Raises
    ------
    UsageError
        If a rule does not exist, the configuration is invalid, or a model that is not in a file is
        to be fixed.
    ModelError
        If the only model is unreadable, invalid or unsupported.

    Examples
    --------
    >>> import normswap
    >>> report = normswap.lint("models/digits_resnet_training.onnx", select=["NS1"])
    >>> finding = report.models[0].findings[0]
    >>> finding.code, finding.node, finding.message
    ('NS102', '/stem/stem.1/BatchNormalization', 'training_mode=1')
    """
    if not models:
        raise UsageError("No model was given to lint.")
    found: list[Linted] = []
    for model in models:
        options = _options(model, config).selecting(select, ignore)
        try:
            found.append(_linted(model, options, fix=fix, progress=progress))
        except UsageError:
            raise
        except NormswapError as error:
            if len(models) == 1:
                raise
            found.append(Linted(name_of(model), error=str(error), error_code=error.exit_code))
    named = {code for linted in found for code in linted.rules}
    return LintReport(
        tuple(found), tuple(rule.info for code, rule in rules().items() if code in named)
    )


def explain_rules(*words: str) -> RulesReport:
    """Return rules in words: those of some codes or names, all without any."""
    chosen = map(rule_of, words) if words else rules().values()
    return RulesReport(tuple(rule.info for rule in chosen))


def _options(model: Source, config: str | os.PathLike[str] | LintOptions | None) -> LintOptions:
    if isinstance(config, LintOptions):
        return config
    path = Path(model) if isinstance(model, str | os.PathLike) else None
    if config is None:
        return configuration.find(path).options_for(path)
    found = configuration.read(Path(config))
    if found is None:
        raise UsageError(f"{os.fspath(config)} has no table [tool.normswap].")
    return found.options_for(path)


def _linted(source: Source, options: LintOptions, *, fix: bool, progress: Progress) -> Linted:
    progress(f"linting {name_of(source)}")
    findings = _findings(source, options)
    fixable = sum(finding.fixable for finding in findings)
    if fix and fixable:
        from normswap.workflows.fold import fold

        if not isinstance(source, str | os.PathLike):
            raise UsageError(
                "A model that was not read from a file can't be fixed in place.",
                tip="Use normswap.fold, which returns the folded model.",
            )
        fold(source, source, overwrite=True, copy=False, progress=progress)
        findings = _findings(source, options)
        fixable -= sum(finding.fixable for finding in findings)
    codes = tuple(rule.code for rule in asked(options))
    return Linted(name_of(source), findings, codes, fixable if fix else 0)


def _findings(source: Source, options: LintOptions) -> tuple[Finding, ...]:
    subject = Subject(load(source))
    return tuple(finding for rule in asked(options) for finding in rule.find(subject, options))

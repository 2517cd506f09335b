"""A model's job, and what came of it: plain data, which goes from process to process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from normswap.errors import ExitCode
from normswap.plain import AsDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ORDER = (
    ExitCode.OK,
    ExitCode.INCONCLUSIVE,
    ExitCode.FINDINGS,
    ExitCode.USAGE,
    ExitCode.MODEL,
    ExitCode.RUN,
)
"""Exit codes, the worst last: what is wrong with a model is worse than not to know, and what could
not be looked at at all is worse than either."""


@dataclass(frozen=True, slots=True)
class Job(AsDict):
    """A command on one model.

    Attributes
    ----------
    arguments : tuple of str
        Its options, as one would type them for this model alone.
    models : tuple of str
        What is read: a path or URL, two of a check.
    names : tuple of str
        What the models are called; as many.
    output : str or None
        The path or URL of what is written; the model itself where it is changed in place.
    named : bool
        Whether the command has to be told the output.
    force : bool
        Whether an output that is there may be replaced.
    records : str or None
        The folder of what was done already.
    home : str or None
        The folder that its paths begin at, where that may be another one than the worker's.
    wants : tuple of str
        What is to come back besides the line: ``report``, ``results``, ``text``.
    """

    command: str
    arguments: tuple[str, ...]
    models: tuple[str, ...]
    names: tuple[str, ...]
    output: str | None = None
    named: bool = False
    force: bool = False
    records: str | None = None
    home: str | None = None
    wants: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Job:
        """Return a job that came from another process, where it was told as JSON."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return cls(**values)

    @property
    def name(self) -> str:
        """What to call it."""
        return " ".join(self.names)


@dataclass(frozen=True, slots=True)
class Outcome(AsDict):
    """What came of one model.

    Attributes
    ----------
    model : str
        What it was called; two with a blank between them of a check.
    exit_code : int
        How the command ends on it alone.
    line : str
        What came of it, in a few words.
    output : str or None
        What was written.
    unchanged : bool
        Whether nothing had to be done, since an earlier run did it.
    seconds : float
        How long it took.
    report : dict or None
        What the command tells of it as JSON.
    results : tuple of dict
        What JUnit, SARIF and GitHub are told.
    text : str
        What the command tells a person.
    """

    model: str
    exit_code: int
    line: str
    output: str | None = None
    unchanged: bool = False
    seconds: float = 0.0
    report: dict[str, Any] | None = None
    results: tuple[dict[str, str], ...] = field(default=(), repr=False)
    text: str = field(default="", repr=False)

    def whole(self) -> dict[str, Any]:
        """Return all of it as plain data, for another process or time."""
        return self.to_dict() | {"results": list(self.results), "text": self.text}


@dataclass(frozen=True, slots=True)
class FleetReport(AsDict):
    """What came of many models.

    Attributes
    ----------
    of : str
        The command.
    models : tuple of Outcome
        In the order in which they were done.
    """

    of: str
    models: tuple[Outcome, ...]

    SCHEMA: ClassVar[str] = "normswap/fleet/1"
    TOLD = ("exit_code",)

    @property
    def exit_code(self) -> ExitCode:
        """How a command that found this ends."""
        return worst(outcome.exit_code for outcome in self.models)


def worst(codes: Iterable[int]) -> ExitCode:
    """Return the worst of exit codes, see `ORDER`."""
    return max(map(ExitCode, codes), key=ORDER.index, default=ExitCode.OK)

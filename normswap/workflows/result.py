"""What a rewrite gives back: the model, wherever it is, and the report on it."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeAlias, TypeVar

import onnx

from normswap.errors import (
    DataError,
    ExitCode,
    InconclusiveError,
    ModelError,
    NotEquivalentError,
    RunError,
    UsageError,
)
from normswap.model import load, stage
from normswap.model.staging import Place, output_name
from normswap.plain import AsDict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.findings import Finding
    from normswap.model.staging import Piped, Staged


Output: TypeAlias = Place | None
"""Where a model goes; None keeps it in memory."""


Report = TypeVar("Report", bound="RewriteReport")


@dataclass(frozen=True, slots=True)
class RewriteReport(AsDict):
    """What a rewrite did.

    Attributes
    ----------
    source : str
        What was read.
    output : str or None
        What was written; None where nothing was.
    size_before, size_after : int
        Bytes of the model, external data included; the latter None where nothing was written.
    failing : tuple of Finding
        What it has that it must not, where a dry run was told.
    """

    source: str
    output: str | None
    size_before: int = field(default=0, kw_only=True)
    size_after: int | None = field(default=None, kw_only=True)
    failing: tuple[Finding, ...] = field(default=(), kw_only=True)

    TOLD: ClassVar[tuple[str, ...]] = ("written", "exit_code")

    @property
    def written(self) -> bool:
        """Whether there is an output."""
        return self.output is not None

    @property
    def exit_code(self) -> ExitCode:
        """How a command that did this ends."""
        return ExitCode.FINDINGS if self.failing else ExitCode.OK


class InMemory(io.BytesIO):
    """Where a model goes for which no place was named."""


def place(output: Output) -> Place:
    """Return where a model goes: to the output, or into memory where there is none.

    Raises
    ------
    UsageError
        The output is neither a path nor a stream.
    """
    if output is None:
        return InMemory()
    if not isinstance(output, str | os.PathLike) and not hasattr(output, "write"):
        raise UsageError(
            f"A model can't be written to an object of type {type(output).__name__}.",
            tip="Give a path, a stream opened with 'wb', or no output to get the model back.",
        )
    return output


@dataclass(frozen=True, eq=False)
class Result(Generic[Report]):
    """A rewritten model, and the report on it.

    Attributes
    ----------
    report : FoldReport, SwapReport, RecalibrateReport or UnfoldReport
        What was done, and what the check found; the same that the command prints as JSON.
    """

    report: Report
    _place: Place = field(repr=False)

    @property
    def model(self) -> onnx.ModelProto:
        """The rewritten model, external data read into it; a new one each time.

        Raises
        ------
        UsageError
            It went into a stream.
        """
        if isinstance(self._place, InMemory):
            return onnx.ModelProto.FromString(self._place.getvalue())
        return onnx.load(self._path)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the rewritten model to a file, which is at every moment the old one or the new one.

        Parameters
        ----------
        path : path
        overwrite : bool
            Whether an existing file may be replaced.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        UsageError
            The file exists, or is no place for one; or the model went into a stream.
        ModelError
            It can't be written.
        """
        written = self._place.getvalue() if isinstance(self._place, InMemory) else self._path
        model = load(written)
        with stage(model, path, overwrite=overwrite, edited=False) as staged:
            staged.commit()
        return Path(path)

    @property
    def _path(self) -> Path:
        if not isinstance(self._place, str | os.PathLike):
            raise UsageError(
                "The model was written to a stream, and is not kept in memory.",
                tip="Without an output, the model stays in memory.",
            )
        return Path(self._place)


def committed(report: Report, staged: Staged | Piped, target: Place) -> Report:
    """Let a rewritten model take its place, and return the report with what was written."""
    staged.commit()
    written = None if isinstance(target, InMemory) else output_name(target)
    return replace(report, output=written, size_after=staged.size)


@contextlib.contextmanager
def advising() -> Iterator[None]:
    """Say of a runtime that fails in a check, or refuses a model, how to do without."""
    try:
        yield
    except DataError:
        raise
    except (RunError, ModelError) as error:
        if error.tip is None:
            stands = "The models could not be evaluated in float64 either. " * isinstance(
                error, RunError
            )
            error.tip = (
                f"{stands}To save the result without comparing it, use --no-check (check=None)."
            )
        raise


def require_sound(report: RewriteReport, findings: Sequence[str]) -> None:
    """Raise an error if the check of a rewrite does not vouch for it.

    Parameters
    ----------
    findings : sequence of str
        What the check found, the gravest first.

    Raises
    ------
    NotEquivalentError, InconclusiveError
        With the report.
    """
    if report.exit_code is ExitCode.OK:
        return
    found = f": {findings[0]}" if findings else ""
    if report.exit_code is ExitCode.FINDINGS:
        raise NotEquivalentError(
            f"The rewrite of {report.source} failed its check{found}.",
            report=report,
            tip="Nothing was saved. The report of this error has all figures, and the inputs.",
        )
    raise InconclusiveError(
        f"The check of the rewrite of {report.source} was inconclusive{found}.",
        report=report,
        tip="Nothing was saved. To save the result without a check, use --no-check (check=None).",
    )

"""The whole story of a rewrite: load, plan, apply, check, and only then save."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from normswap.apply import apply_plan
from normswap.errors import ExitCode, NotEquivalentError, UsageError
from normswap.model import Model, load, stage
from normswap.plan import Plan
from normswap.planner import make_plan

if TYPE_CHECKING:
    from normswap.check import CheckOptions, CheckReport

Source = str | Path | bytes | BinaryIO
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FoldReport:
    """What a fold did.

    Attributes
    ----------
    source, output : str
        What was read, and what was written; the output is empty where nothing was.
    plan : Plan
    check : CheckReport or None
        None where no check was asked for.
    size_before, size_after : int
        Bytes of the model, external data included; the latter 0 where nothing was written.
    """

    source: str
    output: str
    plan: Plan
    check: CheckReport | None = None
    size_before: int = 0
    size_after: int = 0

    @property
    def exit_code(self) -> ExitCode:
        """How a command that did this ends."""
        return ExitCode.OK if self.check is None else ExitCode(self.check.exit_code)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "command": "fold",
            "source": self.source,
            "output": self.output or None,
            "written": bool(self.output),
            "size_before": self.size_before,
            "size_after": self.size_after or None,
            "plan": self.plan.to_dict(),
            "check": None if self.check is None else self.check.to_dict(),
            "exit_code": int(self.exit_code),
        }


def silent(message: str) -> None:
    """Take a progress message and do nothing with it."""
    del message


def plan(source: Source, *, assume_constant: bool = False, progress: Progress = silent) -> FoldReport:
    """Say what :func:`fold` would do to a model, and do nothing.

    Parameters
    ----------
    source : path, bytes or binary stream
    assume_constant : bool
        See :func:`normswap.planner.make_plan`.
    progress : callable
        Is told what is being done.

    Returns
    -------
    FoldReport
        With nothing written and nothing checked.

    Raises
    ------
    ModelError
        If the model is unreadable, invalid or unsupported.
    """
    progress("reading the model")
    model = load(source)
    progress("planning")
    return FoldReport(
        model.name, "", make_plan(model, assume_constant=assume_constant), size_before=model.size
    )


def fold(
    source: Source,
    output: str | Path | BinaryIO,
    *,
    overwrite: bool = False,
    assume_constant: bool = False,
    check: CheckOptions | None = None,
    progress: Progress = silent,
) -> FoldReport:
    """Fold the BatchNormalizations of a model, check the result, and save it.

    Parameters
    ----------
    source : path, bytes or binary stream
        The model. It may be the output too, with ``overwrite``.
    output : path or binary stream
        Where the folded model goes. It is complete there or untouched, whatever happens.
    overwrite : bool
        Whether an existing file may be replaced.
    assume_constant : bool
        See :func:`normswap.planner.make_plan`.
    check : CheckOptions, optional
        How the result is compared with the original; no check is made if it is left out.
    progress : callable
        Is told what is being done.

    Returns
    -------
    FoldReport
        Where the check failed, nothing was written and :attr:`FoldReport.output` is empty.

    Raises
    ------
    ModelError
        If the model is unreadable, invalid or unsupported, or the output can't be written.
    RunError
        If the runtime is unavailable, crashed or timed out in the check.

    Examples
    --------
    >>> report = fold("model.onnx", "model.folded.onnx")  # doctest: +SKIP
    >>> len(report.plan.kept)  # doctest: +SKIP
    0
    """
    progress("reading the model")
    with _on_disk(source, needed=check is not None) as (path, name):
        model = load(path, name=name)
        size = model.size
        progress("planning")
        made = make_plan(model, assume_constant=assume_constant)
        apply_plan(made, model)
        progress("writing")
        with stage(model, output, overwrite=overwrite) as staged:
            result = None
            if check is not None:
                from normswap.check import check as compare

                progress("checking")
                result = compare(Path(path), staged.path, check, progress=progress)  # type: ignore[arg-type]
            report = FoldReport(name, "", made, result, size)
            if report.exit_code == ExitCode.OK:
                staged.commit()
                report = FoldReport(name, staged.target_name, made, result, size, staged.size)
    return report


@contextlib.contextmanager
def _on_disk(source: Source, *, needed: bool) -> Iterator[tuple[Source, str]]:
    """Have a model that comes through a pipe in a file, if a check will need one."""
    if isinstance(source, str | Path):
        yield source, str(source)
        return
    name = "<bytes>" if isinstance(source, bytes) else getattr(source, "name", "<stream>")
    if not needed:
        yield source, str(name)
        return
    with tempfile.TemporaryDirectory(prefix="normswap-") as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(source if isinstance(source, bytes) else source.read())
        yield path, str(name)

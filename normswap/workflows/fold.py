"""The whole story of a rewrite: load, plan, apply, check, and only then save."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from normswap.errors import ExitCode
from normswap.folding.apply import apply_plan
from normswap.folding.planner import make_plan
from normswap.folding.residual import residuals
from normswap.model import Model, load
from normswap.model.staging import output_name, staged_output
from normswap.plain import plain
from normswap.progress import Progress, silent

if TYPE_CHECKING:
    from pathlib import Path

    from normswap.check.options import CheckOptions
    from normswap.check.report import CheckReport
    from normswap.folding.leftover import Form
    from normswap.folding.plan import Plan
    from normswap.folding.residual import Residual
    from normswap.model.loading import Source


@dataclass(frozen=True, slots=True)
class FoldReport:
    """What a fold did.

    Attributes
    ----------
    source : str
        What was read.
    output : str or None
        What was written; None where nothing was.
    plan : Plan
    check : CheckReport or None
        None where no check was asked for.
    residuals : tuple of Residual
        Of the constants that were written, as they were read back; empty without a check.
    size_before, size_after : int
        Bytes of the model, external data included; the latter None where nothing was written.
    """

    source: str
    output: str | None
    plan: Plan
    check: CheckReport | None = None
    residuals: tuple[Residual, ...] = ()
    size_before: int = 0
    size_after: int | None = None

    SCHEMA: ClassVar[str] = "normswap/fold/1"
    TOLD = ("written", "exit_code")

    @property
    def written(self) -> bool:
        """Whether there is an output."""
        return self.output is not None

    @property
    def exit_code(self) -> ExitCode:
        """How a command that did this ends."""
        if not all(residual.is_rounding for residual in self.residuals):
            return ExitCode.FINDINGS
        return ExitCode.OK if self.check is None else ExitCode(self.check.exit_code)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        data: dict[str, Any] = plain(self)
        return data


def plan_fold(
    source: Source,
    *,
    assume_constant: bool = False,
    merge_branches: bool = False,
    leftover: Form = "keep",
    progress: Progress = silent,
) -> FoldReport:
    """Say what :func:`fold` would do to a model, and do nothing.

    Parameters
    ----------
    source : path, bytes or binary stream
    assume_constant, merge_branches, leftover
        See :func:`normswap.folding.planner.make_plan`.
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
    made = make_plan(
        model,
        assume_constant=assume_constant,
        merge_branches=merge_branches,
        leftover=leftover,
    )
    return FoldReport(model.name, None, made, size_before=model.size)


def fold(
    source: Source,
    output: str | Path | BinaryIO,
    *,
    overwrite: bool = False,
    assume_constant: bool = False,
    merge_branches: bool = False,
    leftover: Form = "keep",
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
    assume_constant, merge_branches, leftover
        See :func:`normswap.folding.planner.make_plan`.
    check : CheckOptions, optional
        How the result is compared with the original; no check is made if it is left out.
    progress : callable
        Is told what is being done.

    Returns
    -------
    FoldReport
        Where the check failed, nothing was written and :attr:`FoldReport.output` is None.

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
    model = load(source)
    progress("planning")
    made = make_plan(
        model,
        assume_constant=assume_constant,
        merge_branches=merge_branches,
        leftover=leftover,
    )
    apply_plan(made, model)
    report = FoldReport(model.name, None, made, size_before=model.size)
    progress("writing")
    with staged_output(model, output, overwrite=overwrite) as staged:
        if check is not None:
            report = replace(
                report,
                residuals=residuals(model, load(staged.path)),
                check=_checked(model, staged.path, output_name(output), check, progress),
            )
        if report.exit_code is ExitCode.OK:
            staged.commit()
            report = replace(report, output=output_name(output), size_after=staged.size)
    return report


def _checked(
    model: Model, rewritten: Path, name: str, options: CheckOptions, progress: Progress
) -> CheckReport:
    from normswap.workflows.check import check

    progress("checking")
    with model.original() as original:
        names = ("" if model.path else model.name, name)
        return check(original, rewritten, options, names=names, progress=progress)

"""A rewrite from beginning to end: load, plan, apply, check, and only then save."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from normswap.errors import ExitCode, UsageError, require_choice
from normswap.folding.apply import apply_plan
from normswap.folding.passes.leftovers import Form
from normswap.folding.planner import make_plan
from normswap.model import Model, load
from normswap.progress import Progress, silent
from normswap.workflows.ending import Ending
from normswap.workflows.outlook import NOTHING, Outlook, after_fold
from normswap.workflows.result import Result, RewriteReport, require_sound

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from normswap.check.options import CheckOptions
    from normswap.check.report import CheckReport
    from normswap.folding.plan import Plan
    from normswap.folding.residual import Residual
    from normswap.inspection.gate import FailOn
    from normswap.model.sources import Source
    from normswap.workflows.result import Output


@dataclass(frozen=True, slots=True)
class FoldReport(RewriteReport):
    """What a fold did.

    Attributes
    ----------
    source, output, size_before, size_after, failing
        See :class:`~normswap.workflows.result.RewriteReport`.
    plan : Plan
    check : CheckReport or None
        None if no check was requested.
    residuals : tuple of Residual
        How far the written constants deviate from the formula, as read back; empty without a check,
        and with a check by proof alone, which compares each of them itself.
    outlook : Outlook
        What is left to do, for tips; not part of the JSON.
    """

    plan: Plan
    check: CheckReport | None = None
    residuals: tuple[Residual, ...] = ()
    outlook: Outlook = field(default=NOTHING, repr=False)

    SCHEMA: ClassVar[str] = "normswap/fold/1"

    @property
    def exit_code(self) -> ExitCode:
        """How a command that did this ends."""
        if not all(residual.is_rounding for residual in self.residuals):
            return ExitCode.FINDINGS
        if self.failing:
            return ExitCode.FINDINGS
        return ExitCode.OK if self.check is None else ExitCode(self.check.exit_code)


class FoldResult(Result[FoldReport]):
    """A folded model, and the report on the fold."""


def plan(
    model: Source,
    *,
    assume_constant: bool = False,
    merge_branches: bool = False,
    leftover: Form = "keep",
    max_growth: float | None = None,
    fail_on: Sequence[FailOn] = (),
    progress: Progress = silent,
) -> FoldReport:
    """Say what :func:`fold` would do to a model, without doing it.

    Parameters
    ----------
    model, assume_constant, merge_branches, leftover, max_growth, progress
        See :func:`fold`.
    fail_on : sequence of {"foldable", "kept", "training"}
        What the model must not have: normalizations that a fold removes; ones that it keeps;
        BatchNormalizations and Dropouts in training mode. ``report.failing`` lists those found.

    Returns
    -------
    FoldReport
        Nothing is written or checked. Its ``plan`` has every normalization once: in ``folded``
        with its route, or in ``kept`` with its reason.

    Raises
    ------
    UsageError
        If an option has an invalid value.
    ModelError
        If the model is unreadable, invalid or unsupported.

    Examples
    --------
    >>> import normswap
    >>> report = normswap.plan("models/partial.onnx")
    >>> len(report.plan.folded), len(report.plan.kept)
    (5, 5)
    >>> kept = report.plan.kept[0]
    >>> kept.reason is normswap.Reason.GRAPH_INPUT, kept.detail
    (True, 'image is a graph input')
    >>> report = normswap.plan("models/digits_resnet_training.onnx", fail_on=["training"])
    >>> report.exit_code, report.failing[0].node
    (<ExitCode.FINDINGS: 1>, '/stem/stem.1/BatchNormalization')
    """
    loaded, report = _planned(
        model,
        progress,
        assume_constant=assume_constant,
        merge_branches=merge_branches,
        leftover=leftover,
        max_growth=max_growth,
    )
    if not fail_on:
        return report
    from normswap.inspection.gate import gate

    made = report.plan
    return replace(report, failing=gate(fail_on, loaded, kept=made.kept, folded=made.folded))


def fold(
    model: Source,
    output: Output = None,
    *,
    check: Literal["quick", "full", "proof", "off"] | CheckOptions | None = "quick",
    assume_constant: bool = False,
    merge_branches: bool = False,
    leftover: Form = "keep",
    max_growth: float | None = None,
    overwrite: bool = False,
    certificate: str | os.PathLike[str] | None = None,
    copy: bool = True,
    progress: Progress = silent,
) -> FoldResult:
    """Fold the BatchNormalizations of a model, check the result, and save it.

    Each inference-mode BatchNormalization is folded into the linear operators around it wherever
    that is exact; the others are kept, each with a reason. Inputs, outputs, their names, shapes and
    dtypes, and everything else that the fold doesn't touch stay as they are.

    Parameters
    ----------
    model : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        The model; a Graph of onnx-graphsurgeon, a Model of onnx-ir, an ONNXProgram of torch. It is
        not changed. A path can be a str; with `overwrite`, it can also be the output.
    output : path or binary stream, optional
        Where to write the folded model. Whatever happens, the file is either complete or untouched.
        Without an output nothing is written; the model is in the result.
    check : {"quick", "full", "proof", "off"}, CheckOptions or None
        How the result is compared with the original, in onnxruntime and in float64. ``"proof"``
        runs neither model and needs memory for only a layer or two. None or ``"off"`` skips the
        check. A model to which there is nothing to do is not run.
    assume_constant : bool
        Fold initializers that are also graph inputs, which a caller could override. Those that
        nothing reads afterwards are removed, with their inputs.
    merge_branches : bool
        Merge parallel Convs everywhere, not only where that removes a BatchNormalization.
    leftover : {"keep", "affine", "normalize"}
        How a BatchNormalization that can't be folded is written: unchanged, as one Mul and one Add,
        or as a BatchNormalization with mean 0, var 1 and epsilon 0.
    max_growth : float, optional
        The largest factor by which the model may grow, including external data, such as 1.2. A
        BatchNormalization is kept if folding it would exceed that. A weight that several layers
        share is stored once for each that absorbs one; ``report.plan.copied`` names them.
    overwrite : bool
        Whether an existing file may be replaced.
    certificate : path, optional
        Where to write what was proved, for :func:`normswap.verify`; an existing file is replaced.
        None is written if there is nothing to fold.
    copy : bool
        Whether a model to which there is nothing to do is still copied to the output, unchanged.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    FoldResult
        ``report`` says what was done, ``model`` is the folded ModelProto, and ``save(path)``
        writes it.

    Raises
    ------
    NotEquivalentError
        If the check finds a difference. Nothing is saved; ``error.report`` has the figures, and
        ``error.report.check.failing`` the inputs.
    InconclusiveError
        If the check reaches no conclusion. Nothing is saved; ``error.report`` says why.
    UsageError
        If an option has an invalid value, or the output exists. It is a ValueError.
    ModelError
        If the model is unreadable, invalid or unsupported, or the output can't be written.
    RunError, RunTimeoutError
        If the runtime is unavailable, crashed or timed out in the check.

    Examples
    --------
    >>> import normswap
    >>> result = normswap.fold("models/unet.onnx")
    >>> result.report.check.verdict.value
    'equivalent'
    >>> [node.op_type for node in result.model.graph.node].count("BatchNormalization")
    0
    >>> try:
    ...     normswap.fold("models/unet.onnx", check="quik")
    ... except normswap.UsageError as error:
    ...     print(error, error.tip)
    check='quik' is not one of 'quick', 'full', 'proof', 'off'. Did you mean 'quick'?
    """
    how = None
    if check is not None:
        from normswap.check.options import check_options

        how = check_options(check, provable=True)
    ending = Ending.of(
        model, output, how, certificate, overwrite=overwrite, copy=copy, progress=progress
    )
    loaded, report = _planned(
        model,
        progress,
        assume_constant=assume_constant,
        merge_branches=merge_branches,
        leftover=leftover,
        max_growth=max_growth,
    )
    if not report.plan.edits and ending.is_at_once:
        return FoldResult(*ending.as_it_is(report, loaded))
    with ending.staged(loaded, partial(apply_plan, report.plan, loaded)) as (staged, child):
        if how is not None:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(1) as pool:  # while the check waits for the runtime
                stored = None if how.proves_only else pool.submit(_residuals, loaded, staged.path)
                found = ending.checked(loaded, staged.path, how, child)
                off = () if stored is None else stored.result()
            report = replace(report, residuals=off, check=found)
        require_sound(report, _findings(report))
        folding = None
        if ending.certificate is not None:
            from normswap.workflows.certificate import Folding

            options = assume_constant, merge_branches, leftover, max_growth
            folding = Folding(*options, report.plan.to_dict())
        report = ending.committed(report, report.check, loaded, staged, folding=folding)
    return FoldResult(report, ending.target)


def _planned(
    source: Source, progress: Progress, *, leftover: Form, max_growth: float | None, **options: bool
) -> tuple[Model, FoldReport]:
    require_choice("leftover", leftover, get_args(Form))
    if max_growth is not None and not max_growth >= 1:
        raise UsageError(
            f"max_growth={max_growth!r} is less than 1; it is a factor of the model's size."
        )
    progress("reading the model")
    model = load(source)
    progress("planning")
    made = make_plan(model, leftover=leftover, max_growth=max_growth, **options)
    outlook = after_fold(model, made, leftover=leftover, max_growth=max_growth, **options)
    return model, FoldReport(model.name, None, made, size_before=model.size, outlook=outlook)


def _residuals(folded: Model, written: Path) -> tuple[Residual, ...]:
    from normswap.folding.residual import residuals

    return residuals(folded, load(written))


def _findings(report: FoldReport) -> list[str]:
    """Return what the check of a fold found, the gravest first."""
    off = [residual for residual in report.residuals if not residual.is_rounding]
    stored = [f"{r.tensor!r} deviates from its formula by {r.ulps:.3g} ulp" for r in off]
    return [*stored, *(report.check.reasons if report.check is not None else ())]

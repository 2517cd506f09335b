"""An unfold from beginning to end: load, plan, observe, apply, check, and only then save."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from normswap.check.options import CheckOptions, check_options
from normswap.errors import ExitCode, UsageError
from normswap.groupnorm.selection import Selection
from normswap.inputs.data import BATCH, open_data
from normswap.inputs.signature import read_signature
from normswap.model import load
from normswap.progress import Progress, silent
from normswap.unfolding.apply import apply_unfold
from normswap.unfolding.observe import observe
from normswap.unfolding.plan import UnfoldPlan, make_plan
from normswap.workflows.ending import Ending
from normswap.workflows.result import Result, RewriteReport, require_sound

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from normswap.check.report import CheckReport
    from normswap.inputs.sets import Data
    from normswap.model.sources import Source
    from normswap.workflows.result import Output


@dataclass(frozen=True, slots=True)
class UnfoldReport(RewriteReport):
    """What an unfold did.

    Attributes
    ----------
    source, output, size_before, size_after
        See :class:`~normswap.workflows.result.RewriteReport`.
    plan : UnfoldPlan
    samples : int
        How many samples the statistics come from; 0 without data.
    check : CheckReport or None
        None if no check was requested.
    notes : tuple of str
        Which parts of the data were not used.
    """

    plan: UnfoldPlan
    samples: int = 0
    check: CheckReport | None = None
    notes: tuple[str, ...] = ()

    SCHEMA: ClassVar[str] = "normswap/unfold/1"

    @property
    def exit_code(self) -> ExitCode:
        """How a command that did this ends."""
        return ExitCode.OK if self.check is None else ExitCode(self.check.exit_code)


class UnfoldResult(Result[UnfoldReport]):
    """A model with restored BatchNormalizations, which are identities, and the report on them."""


def plan_report(
    source: Source,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    progress: Progress = silent,
) -> UnfoldReport:
    """Say where :func:`unfold` would put BatchNormalizations, and do nothing; it needs no data."""
    progress("reading the model")
    model = load(source)
    progress("planning")
    plan = make_plan(model, Selection(tuple(include), tuple(exclude)))
    return UnfoldReport(model.name, None, size_before=model.size, plan=plan)


def unfold(
    model: Source,
    output: Output = None,
    *,
    calibrate: Data | None = None,
    samples: int | None = None,
    batch: int = BATCH,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    check: Literal["quick", "full", "proof", "off"] | CheckOptions | None = "quick",
    certificate: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    copy: bool = True,
    progress: Progress = silent,
) -> UnfoldResult:
    """Restore BatchNormalizations after the linear layers of a model whose exporter folded them.

    Each has the mean and variance that its layer's output has on data, and a scale and B that make
    it the identity. So the result is the same function, which is checked, and it can be swapped,
    recalibrated or trained. :func:`normswap.fold` removes them again.

    Parameters
    ----------
    model : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        See :func:`normswap.fold`. Existing BatchNormalizations stay as they are.
    output : path or binary stream, optional
        Where to write the new model. Whatever happens, the file is either complete or untouched.
        Without an output nothing is written; the model is in the result.
    calibrate : path, dict or iterable of dict
        The data to estimate the statistics on, as in :func:`normswap.recalibrate`.
    samples : int, optional
        Use only the first `samples` samples.
    batch : int
        Samples per batch, for data from files and a model with a dynamic batch size. The statistics
        are those of all data as one batch, whatever its value.
    include, exclude : sequence of str
        Patterns (``*`` and ``?``) for the names of nodes and tensors. A layer that matches
        `exclude` gets none, any other that matches `include` gets one, and for the rest the rule in
        docs/unfold.md decides.
    check : {"quick", "full", "proof", "off"}, CheckOptions or None
        How the result is compared with the original, see :func:`normswap.fold`.
    certificate : path, optional
        Where to write what was proved, see :func:`normswap.fold`.
    overwrite : bool
        Whether an existing file may be replaced.
    copy : bool
        Whether a model to which there is nothing to do is still copied to the output, unchanged.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    UnfoldResult
        ``report`` says which layers have one now, and why the others have none; ``model`` is the
        new ModelProto, and ``save(path)`` writes it.

    Raises
    ------
    NotEquivalentError, InconclusiveError
        If the check finds a difference, or reaches no conclusion. Nothing is saved;
        ``error.report`` has the figures.
    UsageError
        If there is no data, an option has an invalid value, or the output exists. It is a
        ValueError.
    ModelError, DataError
        If the model or the data is unreadable, invalid or unsupported, or statistics are not
        finite.
    RunError, RunTimeoutError
        If the runtime is unavailable, crashed or timed out.

    Examples
    --------
    >>> import normswap
    >>> folded = normswap.fold("models/digits_resnet.onnx").model
    >>> result = normswap.unfold(folded, calibrate="models/digits_test.npz", samples=64)
    >>> len(result.report.plan.places), result.report.check.verdict.value
    (8, 'equivalent')
    >>> len(normswap.bn_to_gn(result.model, groups=4, check=None).report.plan.swaps)
    8
    """
    how = check_options(check, provable=True)
    if calibrate is None:
        raise UsageError(
            "There is no data to estimate the statistics of the BatchNormalizations from.",
            tip="Give some inputs of the model with --calibrate (calibrate=).",
        )
    ending = Ending.of(
        model, output, how, certificate, overwrite=overwrite, copy=copy, progress=progress
    )
    progress("reading the model")
    loaded = load(model)
    progress("planning")
    plan = make_plan(loaded, Selection(tuple(include), tuple(exclude)))
    report = UnfoldReport(loaded.name, None, size_before=loaded.size, plan=plan)
    with ExitStack() as stack:
        if plan.places:
            timeout = (how or CheckOptions()).timeout
            original = stack.enter_context(loaded.original())
            data = open_data(calibrate, read_signature(original), batch=batch, samples=samples)
            found, count = observe(original, plan.places, data, timeout=timeout, progress=progress)
            plan = plan.with_statistics(found)
            report = replace(report, plan=plan, samples=count, notes=tuple(data.notes))
        if not plan.places:
            return UnfoldResult(*ending.as_it_is(report, loaded))
        apply = partial(apply_unfold, plan, loaded)
        staged, child = stack.enter_context(ending.staged(loaded, apply))
        if how is not None:
            report = replace(report, check=ending.checked(loaded, staged.path, how, child))
        require_sound(report, [] if report.check is None else list(report.check.reasons))
        report = ending.committed(report, report.check, loaded, staged)
    return UnfoldResult(report, ending.target)

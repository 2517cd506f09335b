"""A swap from beginning to end: load, plan, calibrate, apply, check, and only then save."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from normswap.check.options import CheckOptions, check_options
from normswap.errors import ExitCode, UsageError, require_choice
from normswap.graph.build import build_network
from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.calibrate import CalibrationOptions, calibrate
from normswap.groupnorm.carried import require_finite
from normswap.groupnorm.drift import DriftReport, measure_drift
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.options import AUTO, FASTEST, SwapOptions
from normswap.groupnorm.planner import plan_swap, with_timings
from normswap.groupnorm.policy import CHANNELS, DEFAULT_GROUPS, GroupPolicy
from normswap.groupnorm.race import measure
from normswap.groupnorm.verify import SwapCheck, verify_swap
from normswap.inputs.data import open_data
from normswap.inputs.signature import read_signature
from normswap.model import load, stage
from normswap.model.staging import staged_output
from normswap.plain import called
from normswap.progress import Progress, silent
from normswap.runtime.session import Session
from normswap.runtime.survey import resolve
from normswap.scratch import scratch_folder
from normswap.workflows.narrowed import narrowed
from normswap.workflows.result import (
    Result,
    RewriteReport,
    advising,
    as_it_is,
    committed,
    place,
    require_sound,
)
from normswap.workflows.unfold import unfold as put_back

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import TypedDict

    from typing_extensions import Unpack

    from normswap.groupnorm.plan import SwapPlan
    from normswap.inputs.data import Data, Dataset
    from normswap.model import Model
    from normswap.model.sources import Source
    from normswap.workflows.result import Output

    class Options(TypedDict, total=False):
        """What the three public functions have in common: all of them but `OF_GROUPS`."""

        calibrate: Data | None
        one_pass: bool
        samples: int | None
        unfold: bool
        check: Literal["quick", "full", "off"] | CheckOptions | None
        form: str
        provider: str
        threads: int | None
        epsilon: float | None
        keep_scale: bool
        keep_bias: bool
        include: Sequence[str]
        exclude: Sequence[str]
        only_kept: bool
        overwrite: bool
        copy: bool
        progress: Progress


OF_GROUPS = ("groups", "group_size", "on_indivisible", "search_groups")
"""Parameters that say how many groups there are."""


@dataclass(frozen=True, slots=True)
class SwapReport(RewriteReport):
    """What a swap did.

    Attributes
    ----------
    source, output, size_before, size_after
        See :class:`~normswap.workflows.result.RewriteReport`.
    plan : SwapPlan
    check : SwapCheck or None
        None where no check was asked for.
    uncalibrated : DriftReport or None
        The drift without the calibration, where there was one; that with it is in the check.
    calibrated : int
        Number of layers that were refitted.
    notes : tuple of str
        What of the data was not used.
    unfolded : int
        BatchNormalizations that were put back first, see :func:`normswap.unfold`.
    """

    plan: SwapPlan
    check: SwapCheck | None = None
    uncalibrated: DriftReport | None = field(
        default=None, metadata=called("drift_before_calibration")
    )
    calibrated: int = 0
    notes: tuple[str, ...] = ()
    unfolded: int = 0

    SCHEMA: ClassVar[str] = "normswap/swap/1"

    @property
    def exit_code(self) -> ExitCode:
        """How a command that did this ends."""
        return ExitCode.OK if self.check is None else self.check.exit_code


class SwapResult(Result[SwapReport]):
    """A model with group normalizations, and the report on the swap."""


def plan_report(
    source: Source,
    options: SwapOptions,
    *,
    how: CheckOptions | None = None,
    progress: Progress = silent,
) -> SwapReport:
    """Say what :func:`swap` would do to a model, and do nothing.

    Parameters
    ----------
    source : path, bytes or binary stream
    options : SwapOptions
    how : CheckOptions, optional
        How forms are timed, where the fastest is asked for.
    progress : callable
        Is told what is being done.

    Raises
    ------
    ModelError
        If the model is unreadable, a layer can't be swapped, or a constant is not finite.
    UsageError
        If the options don't fit the model.
    RunError
        If forms are timed, and the runtime is unavailable, crashed or timed out.
    """
    model, plan = _planned(source, options, progress)
    if options.form == FASTEST:
        with model.original() as original:
            plan = _raced(original, plan, how, None, progress)
    return SwapReport(model.name, None, plan, size_before=model.size)


def bn_to_gn(
    model: Source,
    output: Output = None,
    *,
    groups: int | Literal["channels"] = DEFAULT_GROUPS,
    group_size: int | None = None,
    on_indivisible: Literal["error", "gcd", "nearest", "keep"] = "error",
    search_groups: bool = False,
    calibrate: Data | None = None,
    one_pass: bool = False,
    samples: int | None = None,
    unfold: bool = False,
    check: Literal["quick", "full", "off"] | CheckOptions | None = "quick",
    form: str = AUTO,
    provider: str = "cpu",
    threads: int | None = None,
    epsilon: float | None = None,
    keep_scale: bool = True,
    keep_bias: bool = True,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    only_kept: bool = False,
    overwrite: bool = False,
    copy: bool = True,
    progress: Progress = silent,
) -> SwapResult:
    """Replace the BatchNormalizations of a model by group normalizations, check it, and save it.

    The result is another network, which no longer depends on the statistics of a batch. It is
    checked to be exactly the group normalization network, in float64; its drift from the original
    is reported, and is no error. Inputs, outputs, their names, shapes and dtypes stay.

    Parameters
    ----------
    model : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        See :func:`normswap.fold`.
    output : path or binary stream, optional
        Where the new model goes. It is complete there or untouched, whatever happens. Without it
        nothing is written, and the model is the result's.
    groups : int or "channels"
        Number of groups; 1 is layer normalization, ``"channels"`` is instance normalization.
    group_size : int, optional
        Channels in a group, in place of `groups`.
    on_indivisible : {"error", "gcd", "nearest", "keep"}
        What happens to layers whose channels are not a multiple of that: the model is refused; the
        greatest common divisor or the nearest divisor is taken; they keep their
        BatchNormalization.
    search_groups : bool
        Give each layer the number of groups that fits the data best.
    calibrate : path, dict or iterable of dict, optional
        Refit every layer's scale and bias on data, so that the network follows the original; the
        check and the drift use the data too. A path is that of an ``.npz`` with an array for each
        input, of an ``.npy`` or ``.pb`` with the only one, or of a folder of these or of
        ``test_data_set_*``. In memory it is a dict of arrays by input name, or an iterable of one
        for each batch, in the shape and dtype that the model takes. Samples lie along the first
        axis; other arrays, such as labels, are ignored.
    one_pass : bool
        Calibrate all layers in one pass: faster, and less exact.
    samples : int, optional
        Use only the first so many samples of the data.
    unfold : bool
        Put BatchNormalizations back first where an exporter folded them, with the statistics of the
        data, see :func:`normswap.unfold`. That is checked too.
    check : {"quick", "full", "off"}, CheckOptions or None
        How the result is checked. None or ``"off"``: not at all. A model to which there is nothing
        to do is not run.
    form : str
        ``"auto"``, ``"fastest"``, or a form of docs/bn-to-gn.md: ``"native"``, ``"layernorm"``,
        ``"instancenorm"``, ``"centred"``, ``"primitive"``, ``"contrib"``.
    provider : str
        Execution provider that the model is for, and that the check runs on if it isn't told.
    threads : int, optional
        Threads that the model will run on; as many as this machine has, if left out.
    epsilon : float, optional
        In place of each layer's own.
    keep_scale, keep_bias : bool
        Whether a layer's scale and B stay as the affine.
    include, exclude : sequence of str
        Patterns (``*`` and ``?``) on names of nodes and of their input and output tensors.
    only_kept : bool
        Swap only what :func:`normswap.fold` can't remove.
    overwrite : bool
        Whether an existing file may be replaced.
    copy : bool
        Whether a model to which there is nothing to do is written to the output too, as it is.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    SwapResult
        ``report`` says what was done, ``model`` is the new ModelProto, and ``save(path)`` writes
        it.

    Raises
    ------
    NotEquivalentError
        If the check finds that it is not the group normalization network. Nothing is saved;
        ``error.report`` has the figures.
    InconclusiveError
        If the check can conclude nothing. Nothing is saved; see ``error.report`` too.
    UsageError
        If an option has a value that it can't have, doesn't fit the model, or the output exists. It
        is a ValueError.
    ModelError, DataError
        If the model or the data is unreadable, invalid or unsupported, or a constant of the model,
        the data or what is fitted to it is not finite.
    RunError, RunTimeoutError
        If the runtime is unavailable, crashed or timed out.

    Examples
    --------
    >>> import normswap
    >>> result = normswap.bn_to_gn("models/digits_resnet.onnx", groups=4, form="primitive")
    >>> len(result.report.plan.swaps), result.report.check.verdict.value
    (8, 'equivalent')
    >>> normswap.bn_to_gn("models/digits_resnet.onnx", form="grouped")
    Traceback (most recent call last):
    normswap.errors.UsageError: form='grouped' is not one of 'auto', 'fastest', 'centred', ...
    """
    how = check_options(check, provider=provider)
    needing = {"one_pass": one_pass, "search_groups": search_groups, "samples": samples is not None}
    needing["unfold"] = unfold
    for name, given in needing.items():
        if given and calibrate is None:
            raise UsageError(f"{name} needs data.", tip="Give it with calibrate=.")
    timeout = (how or CheckOptions()).timeout
    return swap(
        model,
        output,
        SwapOptions(
            policy=GroupPolicy.of(groups, group_size, on_indivisible),
            form=form,
            provider=provider,
            threads=threads,
            epsilon=epsilon,
            keep_scale=keep_scale,
            keep_bias=keep_bias,
            include=tuple(include),
            exclude=tuple(exclude),
            only_kept=only_kept,
        ),
        overwrite=overwrite,
        copy=copy,
        check=how,
        data=calibrate,
        samples=samples,
        unfold=unfold,
        calibration=CalibrationOptions(one_pass, search_groups, timeout),
        progress=progress,
    )


@narrowed(bn_to_gn, *OF_GROUPS)
def bn_to_ln(model: Source, output: Output = None, **options: Unpack[Options]) -> SwapResult:
    """Replace BatchNormalization by layer normalization over channels and space: one group.

    Examples
    --------
    >>> import normswap
    >>> result = normswap.bn_to_ln("models/digits_resnet.onnx", check=None)
    >>> {swap.num_groups for swap in result.report.plan.swaps}
    {1}
    """
    return bn_to_gn(model, output, groups=1, **options)


@narrowed(bn_to_gn, *OF_GROUPS)
def bn_to_in(model: Source, output: Output = None, **options: Unpack[Options]) -> SwapResult:
    """Replace BatchNormalization by instance normalization: a group for every channel.

    Examples
    --------
    >>> import normswap
    >>> result = normswap.bn_to_in("models/digits_resnet.onnx", check=None)
    >>> all(swap.num_groups == swap.site.channels for swap in result.report.plan.swaps)
    True
    """
    return bn_to_gn(model, output, groups=CHANNELS, **options)


def swap(
    source: Source,
    output: Output,
    options: SwapOptions,
    *,
    overwrite: bool = False,
    copy: bool = True,
    check: CheckOptions | None = None,
    how: CheckOptions | None = None,
    data: Data | None = None,
    samples: int | None = None,
    unfold: bool = False,
    calibration: CalibrationOptions | None = None,
    progress: Progress = silent,
) -> SwapResult:
    """Do what :func:`bn_to_gn` says, as its options were understood; it is what the commands call.

    Parameters
    ----------
    source : path, or whatever else a model is given as
    output : path or binary stream, optional
    options : SwapOptions
    overwrite : bool
        Whether an existing file may be replaced.
    copy : bool
        Whether a model to which there is nothing to do is written to the output too, as it is.
    check : CheckOptions, optional
        How the result is checked; not at all if it is left out.
    how : CheckOptions, optional
        How forms are timed, where the fastest is asked for; as the check is, if it is left out.
    data : path, feeds or iterable of feeds, optional
        See :func:`normswap.inputs.data.open_data`. The check and the drift use it, and so does
        the calibration.
    samples : int, optional
        Use the first so many samples of the data.
    unfold : bool
        Put BatchNormalizations back first, with the statistics of the data.
    calibration : CalibrationOptions, optional
        Refit the layers on the data.
    progress : callable
        Is told what is being done.

    Returns
    -------
    SwapResult
        See :func:`bn_to_gn`, also for the errors.
    """
    target = place(output)
    first = None
    if unfold:
        data = list(data) if isinstance(data, Iterator) else data  # which is gone through again
        first = put_back(source, calibrate=data, samples=samples, check=check, progress=progress)
        source = first.model
    name = None if first is None else first.report.source
    model, plan = _planned(source, options, progress, name)
    options = plan.options
    report = SwapReport(model.name, None, plan, size_before=model.size)
    if first is not None:
        count = len(first.report.plan.places)
        report = replace(report, unfolded=count, size_before=first.report.size_before)
    if not plan.swaps:
        return SwapResult(*as_it_is(report, model, target, overwrite=overwrite, copy=copy))
    with model.original() as original:
        batches: Dataset | None = None
        if data is not None:
            batches = open_data(data, read_signature(original), samples=samples)
        if calibration is not None and batches is not None:
            affines = calibrate(original, plan, batches, calibration, progress)
            if check is not None:
                before = _plain_drift(original, plan, batches, check)
                report = replace(report, uncalibrated=before)
            plan = plan_swap(model, replace(options, affines=affines))
            report = replace(report, plan=plan, calibrated=len(affines))
        if options.form == FASTEST:
            plan = _raced(original, plan, how or check, batches, progress)
            report = replace(report, plan=plan)
        apply_swaps(plan, model)
        progress("writing")
        with staged_output(model, target, overwrite=overwrite) as staged:
            if check is not None:
                with advising():
                    result = verify_swap(
                        original, staged.path, plan, check, batches=batches, progress=progress
                    )
                report = replace(report, check=result)
            report = replace(report, notes=() if batches is None else tuple(batches.notes))
            require_sound(report, [] if report.check is None else _findings(report.check))
            report = committed(report, staged, target)
    return SwapResult(report, target)


def _planned(
    source: Source, options: SwapOptions, progress: Progress, name: str | None = None
) -> tuple[Model, SwapPlan]:
    """Plan a swap; refuse one that would carry a constant on that is not finite."""
    require_choice("form", options.form, [AUTO, FASTEST, *FORMS])
    progress("reading the model")
    model = load(source, name=name)
    progress("planning")
    plan = plan_swap(model, replace(options, provider=resolve(options.provider)))
    if plan.swaps:
        targets = {swap.key for swap in plan.swaps}
        require_finite(model.name, build_network(model), targets, "swapped")
    return model, plan


def _findings(check: SwapCheck) -> list[str]:
    """Return what the check of a swap found, the gravest first."""
    wrong = [c for c in (*check.outputs, *check.invariance) if not c.right]
    return [
        *(f"{c.layer} is {c.max_error:.1e} off float64" for c in check.layers if not c.ratio <= 1),
        *(f"output {c.output!r} is {c.max_error:.1e} off float64" for c in wrong),
        *check.notes,
    ]


def _raced(
    original: Path,
    plan: SwapPlan,
    how: CheckOptions | None,
    batches: Dataset | None,
    progress: Progress,
) -> SwapPlan:
    """Return the plan with every layer in the form that is the fastest here."""
    if not plan.swaps:
        return plan
    how = how or CheckOptions(plan.options.provider)
    timings = measure(original, plan, how, batches=batches, progress=progress)
    return with_timings(plan, timings)


def _plain_drift(
    original: Path, plan: SwapPlan, batches: Dataset, check: CheckOptions
) -> DriftReport:
    """Measure the drift of the swap without its calibration."""
    model = load(original)
    layers = {layer.y: layer.data_type for layer in plan.visible_layers}
    apply_swaps(plan, model)
    outputs = [port.name for port in read_signature(original).outputs if "float" in port.dtype]
    with scratch_folder() as folder:
        path = folder / "swapped.onnx"
        with stage(model, path) as staged:
            staged.commit()
        how: dict[str, Any] = {
            "taps": layers,
            "provider": check.provider,
            "provider_options": check.provider_options,
            "timeout": check.timeout,
            "alike": True,
        }
        with (
            Session(original, label="the original model", **how) as before,
            Session(path, label="the swapped model", **how) as after,
        ):
            return measure_drift(before, after, batches, outputs, list(layers), silent, own=True)

"""A swap from beginning to end: load, plan, calibrate, apply, check, and only then save."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from normswap.beside import placed
from normswap.check.options import CheckOptions, check_options
from normswap.check.starting import is_enough, start
from normswap.check.verdict import Verdict
from normswap.errors import ExitCode, UsageError, require_choice
from normswap.graph.build import build_network
from normswap.groupnorm.accuracy import Accuracy, measure_accuracy
from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.calibrate import CalibrationOptions
from normswap.groupnorm.carried import require_finite
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.intent import batchnorm_places, intents_of
from normswap.groupnorm.options import SwapOptions
from normswap.groupnorm.planner import plan_swap, require_elements, with_timings
from normswap.groupnorm.policy import GroupPolicy
from normswap.groupnorm.race import measure
from normswap.groupnorm.state_dict import parameters_of, state_dict_of
from normswap.groupnorm.state_file import encoded, require_kind
from normswap.groupnorm.words import AUTO, CHANNELS, DEFAULT_GROUPS, FASTEST, SHARE
from normswap.inputs.arrayfiles import read_array
from normswap.inputs.data import open_data
from normswap.inputs.signature import read_signature
from normswap.inspection.gate import gate
from normswap.model import load
from normswap.model.sources import read_bytes
from normswap.model.staging import output_name, staged_output
from normswap.plain import called
from normswap.progress import Progress, silent
from normswap.runtime.session import Session
from normswap.runtime.survey import resolve
from normswap.workflows.calibration import calibrated, divide, plain_drift
from normswap.workflows.certificate import certifiable, certify
from normswap.workflows.check import file_of
from normswap.workflows.narrowed import narrowed
from normswap.workflows.normalizing import normalized
from normswap.workflows.outlook import NOTHING, Outlook, before_swap
from normswap.workflows.regrouping import regrouped
from normswap.workflows.result import (
    Result,
    RewriteReport,
    advising,
    as_it_is,
    committed,
    place,
    require_sound,
)
from normswap.workflows.sameness import Sameness, same_as
from normswap.workflows.swap_check import SwapCheck, check_swap
from normswap.workflows.unfold import unfold as put_back

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypedDict

    import numpy.typing as npt
    from typing_extensions import Unpack

    from normswap.groupnorm.drift import DriftReport
    from normswap.groupnorm.plan import SwapPlan
    from normswap.groupnorm.refit.holdout import Part
    from normswap.groupnorm.refit.outcome import Fit
    from normswap.groupnorm.regroup.regroup import Regrouping
    from normswap.groupnorm.state_dict import StateDict
    from normswap.inputs.data import Data, Dataset
    from normswap.inspection.gate import FailOn
    from normswap.model import Model
    from normswap.model.sources import Source
    from normswap.workflows.result import Output

    class Options(TypedDict, total=False):
        """What the three public functions have in common: all of them but `OF_GROUPS`."""

        calibrate: Data | None
        refit: bool
        holdout: float | str
        one_pass: bool
        evaluate: Data | None
        labels: str | os.PathLike[str] | npt.NDArray[Any] | None
        samples: int | None
        unfold: bool
        check: Literal["quick", "full", "off"] | CheckOptions | None
        form: str
        provider: str
        threads: int | None
        epsilon: float | None
        normalize: bool
        keep_scale: bool
        keep_bias: bool
        include: Sequence[str]
        exclude: Sequence[str]
        only_kept: bool
        overwrite: bool
        certificate: str | os.PathLike[str] | None
        state_dict: str | os.PathLike[str] | None
        copy: bool
        progress: Progress


OF_GROUPS = ("groups", "group_size", "on_indivisible", "search_groups", "regroup")
"""Parameters that say how many groups there are."""


@dataclass(frozen=True, slots=True)
class SwapReport(RewriteReport):
    """What a swap did.

    Attributes
    ----------
    source, output, size_before, size_after, failing
        See :class:`~normswap.workflows.result.RewriteReport`.
    plan : SwapPlan
    check : SwapCheck or None
        None where no check was asked for.
    uncalibrated : DriftReport or None
        The drift without the calibration, where there was one; that with it is in the check.
    calibrated : int
        Number of layers that were refitted.
    accuracy : Accuracy or None
        By labels, where there were some.
    notes : tuple of str
        What of the data was not used.
    normalization : Sameness or None
        None where no check was asked for, or there was nothing to normalize.
    fit : Fit or None
        What was fitted to data layer by layer, and what that brought on samples that were held out.
    regrouping : Regrouping or None
        What was done for the groups, where that was asked for.
    permutation : Sameness or None
        Whether the network with its channels in another order is the same function.
    unfolded : int
        BatchNormalizations that were put back first, see :func:`normswap.unfold`.
    evaluated : bool
        Whether the drift and the accuracy are on data that was given for them.
    state_dict : StateDict or None
        What was written for torch, where that was asked for.
    outlook : Outlook
        What is left to do, for tips; not part of the JSON.
    """

    plan: SwapPlan
    check: SwapCheck | None = None
    uncalibrated: DriftReport | None = field(
        default=None, metadata=called("drift_before_calibration")
    )
    calibrated: int = 0
    accuracy: Accuracy | None = None
    notes: tuple[str, ...] = ()
    normalization: Sameness | None = None
    fit: Fit | None = None
    regrouping: Regrouping | None = None
    permutation: Sameness | None = None
    unfolded: int = 0
    evaluated: bool = False
    state_dict: StateDict | None = None
    outlook: Outlook = field(default=NOTHING, repr=False)

    SCHEMA: ClassVar[str] = "normswap/swap/1"

    @property
    def exit_code(self) -> ExitCode:
        """How a command that did this ends."""
        if self.failing:
            return ExitCode.FINDINGS
        for same in (self.permutation, self.normalization):
            if same is not None and same.verdict.exit_code is not ExitCode.OK:
                return same.verdict.exit_code
        return ExitCode.OK if self.check is None else self.check.exit_code


class SwapResult(Result[SwapReport]):
    """A model with group normalizations, and the report on the swap."""


def plan_report(
    source: Source,
    options: SwapOptions,
    *,
    how: CheckOptions | None = None,
    fail_on: Sequence[FailOn] = (),
    progress: Progress = silent,
) -> SwapReport:
    """Say what :func:`swap` would do to a model, and do nothing.

    Parameters
    ----------
    source : path, bytes or binary stream
    options : SwapOptions
    how : CheckOptions, optional
        How forms are timed, where the fastest is asked for.
    fail_on : sequence of {"foldable", "kept", "training"}
        What the report counts as findings, see :func:`normswap.plan`.
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
    failing = gate(fail_on, model, kept=plan.untouched)  # of the model as it was given
    with (
        regrouped(model, plan, progress) as ordered,
        normalized(ordered.model, ordered.plan, progress) as network,
    ):
        plan = network.plan
        if options.form == FASTEST:
            plan = _raced(network.path, plan, how, None, progress)
    outlook = before_swap(model, plan)
    report = SwapReport(
        model.name, None, plan, size_before=model.size, failing=failing, outlook=outlook
    )
    return replace(report, regrouping=ordered.found)


def bn_to_gn(
    model: Source,
    output: Output = None,
    *,
    groups: int | Literal["channels"] = DEFAULT_GROUPS,
    group_size: int | None = None,
    on_indivisible: Literal["error", "gcd", "nearest", "keep"] = "error",
    search_groups: bool = False,
    regroup: bool = False,
    calibrate: Data | None = None,
    refit: bool = False,
    holdout: float | str = SHARE,
    one_pass: bool = False,
    evaluate: Data | None = None,
    labels: str | os.PathLike[str] | npt.NDArray[Any] | None = None,
    samples: int | None = None,
    unfold: bool = False,
    check: Literal["quick", "full", "off"] | CheckOptions | None = "quick",
    form: str = AUTO,
    provider: str = "cpu",
    threads: int | None = None,
    epsilon: float | None = None,
    normalize: bool = True,
    keep_scale: bool = True,
    keep_bias: bool = True,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    only_kept: bool = False,
    overwrite: bool = False,
    certificate: str | os.PathLike[str] | None = None,
    state_dict: str | os.PathLike[str] | None = None,
    copy: bool = True,
    progress: Progress = silent,
) -> SwapResult:
    """Replace the BatchNormalizations of a model by group normalizations, check it, and save it.

    The result is another network, which no longer depends on the statistics of a batch. Mean and
    variance of each layer go to what is before it, and the group normalization is one of what they
    have normalized, so that most of the accuracy stays. It is proved to be exactly that network,
    region by region; its drift from the original is reported, and is no error. Inputs, outputs,
    their names, shapes and dtypes stay.

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
    regroup : bool
        Permute the channels of the network so that those share a group whose statistics hold still
        together, by the data of `calibrate` or else by the weights. It costs nothing at run time:
        constants alone change, and the network with BatchNormalizations is proved to be the same
        function.
    calibrate : path, dict or iterable of dict, optional
        Fit every layer's scale and bias to data, so that the network follows the original, as far
        as samples that are held out come nearer to it; the check and the drift are on these, unless
        there is `evaluate`. A path is that of an ``.npz`` with an array for each input, of an
        ``.npy`` or ``.pb`` with the only one, or of a folder of these or of ``test_data_set_*``. In
        memory it is a dict of arrays by input name, or an iterable of one for each batch, in the
        shape and dtype that the model takes. Samples lie along the first axis; other arrays, such
        as labels, are ignored.
    refit : bool
        Fit the weights of linear layers too, by least squares: needs no labels, and wins back most
        of what the swap costs.
    holdout : float or str
        The share of the samples that is not fitted to, and by which every step is judged; or the
        name of an array of the data that says what each sample belongs to (a picture, a patient),
        of which then a quarter is held out.
    one_pass : bool
        Calibrate all layers in one pass: faster, and less exact.
    evaluate : path, dict or iterable of dict, optional
        Data that the check and the drift use, and to which nothing is fitted.
    labels : str, path or ndarray, optional
        The number of the class of each sample of that data, or of each pixel: the name of an array
        that it has, a file of one array, or the array. ``report.accuracy`` then says how often the
        original and the swapped network tell it.
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
    normalize : bool
        Let each layer's mean and variance go to what is before it, as a fold does, or become a Mul
        and an Add there, so that its group normalization is one of the normalized tensor: what
        comes out is then near the original without any data. Without, it is of the tensor as it
        is, for those who train from scratch.
    keep_scale, keep_bias : bool
        Whether a layer's scale and B stay as the affine.
    include, exclude : sequence of str
        Patterns (``*`` and ``?``) on names of nodes and of their input and output tensors.
    only_kept : bool
        Swap only what :func:`normswap.fold` can't remove.
    overwrite : bool
        Whether an existing file may be replaced.
    certificate : path, optional
        Where to write what was proved, for :func:`normswap.verify`; an existing file is replaced.
        There is none of a model that is not written for want of anything to do.
    state_dict : path, optional
        Where to write the weights for a torch module whose BatchNorms are GroupNorms: an ``.npz``
        or ``.safetensors``, by the names that torch's exporter gave the initializers. No layer then
        takes in what is beside it.
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
    fitting = {
        "refit": refit,
        "holdout": holdout != SHARE,
        "one_pass": one_pass,
        "search_groups": search_groups,
        "unfold": unfold,
    }
    for name, given in fitting.items():
        if given and calibrate is None:
            raise UsageError(f"{name} needs data.", tip="Add calibrate=.")
    for name, given in (("samples", samples is not None), ("labels", labels is not None)):
        if given and calibrate is None and evaluate is None:
            raise UsageError(f"{name} needs data.", tip="Add calibrate= or evaluate=.")
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
            normalize=normalize,
            regroup=regroup,
            keep_scale=keep_scale,
            keep_bias=keep_bias,
            include=tuple(include),
            exclude=tuple(exclude),
            only_kept=only_kept,
        ),
        overwrite=overwrite,
        certificate=certificate,
        state_dict=state_dict,
        copy=copy,
        check=how,
        data=calibrate,
        evaluate=evaluate,
        labels=labels,
        samples=samples,
        unfold=unfold,
        calibration=CalibrationOptions(one_pass, search_groups, timeout, refit, holdout),
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
    certificate: str | os.PathLike[str] | None = None,
    state_dict: str | os.PathLike[str] | None = None,
    copy: bool = True,
    check: CheckOptions | None = None,
    how: CheckOptions | None = None,
    data: Data | None = None,
    evaluate: Data | None = None,
    labels: str | os.PathLike[str] | npt.NDArray[Any] | None = None,
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
    certificate : path, optional
        Where to write what was proved.
    state_dict : path, optional
        Where to write the weights for torch.
    copy : bool
        Whether a model to which there is nothing to do is written to the output too, as it is.
    check : CheckOptions, optional
        How the result is checked; not at all if it is left out.
    how : CheckOptions, optional
        How forms are timed, where the fastest is asked for; as the check is, if it is left out.
    data : path, feeds or iterable of feeds, optional
        See :func:`normswap.inputs.data.open_data`. The calibration uses it, and so do the check
        and the drift, where nothing else is given for them.
    evaluate : path, feeds or iterable of feeds, optional
        What the check and the drift use.
    labels : str, path or ndarray, optional
        Of the data that these use.
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
    if certificate is not None and options.regroup:
        raise UsageError(
            "A certificate can't be made for a swap that permutes channels.",
            tip="Leave out either the certificate or the regrouping (--regroup).",
        )
    certified = None if certificate is None else certifiable(check, certificate, source, output)
    mapped = None
    if state_dict is not None:
        mapped = _mappable(state_dict, unfold=unfold, overwrite=overwrite)
        options = replace(options, absorb=False)
    target = place(output)
    data = list(data) if isinstance(data, Iterator) else data  # which is gone through again
    back = None
    if unfold:
        if certificate is not None:
            tip = "Write the model with `normswap unfold` first, and swap that file."
            raise UsageError(
                "A certificate needs the swapped model in a file, but --unfold makes it in memory.",
                tip=tip,
            )
        source = io.BytesIO(read_bytes(source)) if hasattr(source, "read") else source
        part = data
        if data is not None and calibration is not None:
            part = _fitted(source, data, samples, calibration)
        back = put_back(source, calibrate=part, check=check, progress=progress)
        source = back.model
    name = None if back is None else back.report.source
    model, plan = _planned(source, options, progress, name)
    outlook = before_swap(model, plan)
    report = SwapReport(model.name, None, plan, size_before=model.size, outlook=outlook)
    if back is not None:
        count = len(back.report.plan.places)
        report = replace(report, unfolded=count, size_before=back.report.size_before)
    if not plan.swaps and (certified is None or not copy):
        return SwapResult(*as_it_is(report, model, target, overwrite=overwrite, copy=copy))
    named = "" if model.path else model.name
    parameters = None if mapped is None else parameters_of(model)
    fit = calibration if data is not None else None
    if certified is not None and fit is not None and fit.refit:
        raise UsageError(
            "A certificate can't be made for a swap that fits weights: it certifies the "
            "weights of the original.",
            tip="Leave out either the certificate or --refit.",
        )
    with ExitStack() as stack:
        ordered = stack.enter_context(
            regrouped(model, plan, progress, data=data, samples=samples, fit=fit, check=check)
        )
        places = batchnorm_places(ordered.model)
        first = ordered.plan
        network = stack.enter_context(normalized(ordered.model, first, progress, fit))
        model, plan, original = network.model, network.plan, network.path
        report = replace(report, plan=plan, regrouping=ordered.found, permutation=ordered.check)
        require_sound(report, () if ordered.check is None else ordered.check.reasons)
        signature = read_signature(original)
        units = None if fit is None else fit.units
        fitted_on = None
        if data is not None:
            fitted_on = open_data(data, signature, samples=samples, units=units)
        other = None if evaluate is None else open_data(evaluate, signature, samples=samples)
        report = replace(report, evaluated=other is not None)
        batches = other or fitted_on
        truth = None if batches is None or labels is None else _labels(labels, batches)
        shown: Dataset | Part | None = batches  # what the check and the drift are on
        if fit is not None and fitted_on is not None:
            parts = divide(fitted_on, signature, fit)
            if other is None:
                shown = parts[1]
                truth = None if truth is None else parts[1].of(truth)
            if check is not None and shown is not None:
                before = plain_drift(original, plan, shown, check)
                report = replace(report, uncalibrated=before)
            fitted = stack.enter_context(calibrated(network, parts, fit, progress))
            model, plan, original = fitted.model, fitted.plan, fitted.path
            report = replace(report, plan=plan, calibrated=fitted.calibrated, fit=fitted.fit)
        if options.form == FASTEST:
            plan = _raced(original, plan, how or check, shown, progress)
            report = replace(report, plan=plan)
        base, read = network.source or original, plan
        if original != network.path:  # of other weights: it is what the swap is of
            base, places = original, batchnorm_places(model)
            own = (replace(swap, number=None, statistics=None) for swap in plan.swaps)
            first = read = replace(plan, swaps=tuple(own))
            if check is not None and network.source is not None:
                same = same_as(network.source, network.path, check, progress, what="normalized")
                report = replace(report, normalization=same)
                require_sound(report, same.reasons)
        intents = intents_of(first, read, places)
        weights = None
        if parameters is not None and mapped is not None:
            arrays, told = state_dict_of(parameters, model, plan, str(mapped))
            weights = encoded(arrays, mapped)
            report = replace(report, state_dict=told)
        child = start(check, stack) if check is not None and is_enough(check) else None
        apply_swaps(plan, model)
        progress("writing")
        staged = stack.enter_context(
            staged_output(model, target, overwrite=overwrite, edited=bool(plan.swaps))
        )
        if check is not None:
            written = "<memory>" if output is None else output_name(target)
            with advising():
                found = check_swap(
                    base,
                    staged.path,
                    plan,
                    intents,
                    check,
                    network=network.path,
                    names=(named, written),
                    batches=shown,
                    fed=certified is None,
                    child=child,
                    progress=progress,
                )
            report = replace(report, check=found)
            if base == network.source and found.verdict is Verdict.EQUIVALENT:
                # What was written is the original, its statistics before its groups.
                same = Sameness(found.verdict, proved=found.is_proved)
                report = replace(report, normalization=same)
        if truth is not None and shown is not None:
            how = how or check or CheckOptions(plan.options.provider)
            known = _accuracy(network.path, staged.path, shown, truth, how, progress)
            report = replace(report, accuracy=known)
        notes = dict.fromkeys(n for some in (fitted_on, other) if some for n in some.notes)
        report = replace(report, notes=tuple(notes))
        require_sound(report, () if report.check is None else report.check.reasons)
        made = None
        if certified is not None and check is not None and report.check is not None:
            progress("certifying")
            called_so = (model.name, Path(output_name(target)).name)
            made = certify(
                base,
                staged.path,
                report.check,
                check,
                names=called_so,
                swapping=intents,
            )
        with placed(None if made is None else str(made), certified), placed(weights, mapped):
            report = committed(report, staged, target)
    return SwapResult(report, target)


def _mappable(path: str | os.PathLike[str], *, unfold: bool, overwrite: bool) -> Path:
    """Return where weights for torch go; refuse what there can be none of."""
    file = Path(path)
    require_kind(file)
    if unfold:
        raise UsageError(
            "Weights for torch can't be written for an unfolded model, which has lost "
            "torch's names of its BatchNorms.",
            tip="Export the model with its BatchNorms (see docs/export.md), or leave out "
            "--map (state_dict=).",
        )
    if file.exists() and not overwrite:
        raise UsageError(
            f"{file} already exists.", tip="Use --force (overwrite=True) to replace it."
        )
    return file


def _fitted(
    source: Source, data: Data, samples: int | None, how: CalibrationOptions
) -> Iterable[Mapping[str, Any]]:
    """Return the samples that are not held out; a stream is where it was then."""
    with file_of(source) as path:
        signature = read_signature(path)
        given = open_data(data, signature, samples=samples, units=how.units)
        fitted, _ = divide(given, signature, how)
    if isinstance(source, io.BytesIO):
        source.seek(0)
    return fitted


def _planned(
    source: Source, options: SwapOptions, progress: Progress, name: str | None = None
) -> tuple[Model, SwapPlan]:
    """Plan a swap; refuse one that would carry a constant on that is not finite."""
    require_choice("form", options.form, [AUTO, FASTEST, *FORMS])
    progress("reading the model")
    model = load(source, name=name)
    progress("planning")
    plan = plan_swap(model, replace(options, provider=resolve(options.provider)))
    require_elements(plan)
    if plan.swaps:
        targets = {swap.key for swap in plan.swaps}
        require_finite(model.name, build_network(model), targets, "swapped")
    return model, plan


def _raced(
    original: Path,
    plan: SwapPlan,
    how: CheckOptions | None,
    batches: Iterable[Mapping[str, Any]] | None,
    progress: Progress,
) -> SwapPlan:
    """Return the plan with every layer in the form that is the fastest here."""
    if not plan.swaps:
        return plan
    how = how or CheckOptions(plan.options.provider)
    timings = measure(original, plan, how, batches=batches, progress=progress)
    return with_timings(plan, timings)


def _labels(
    labels: str | os.PathLike[str] | npt.NDArray[Any], batches: Dataset
) -> npt.NDArray[Any]:
    """Return the labels of some data: those of an array in it, or else of a file."""
    if not isinstance(labels, str | os.PathLike):
        return batches.labels(np.asarray(labels))
    path = Path(labels)
    return batches.labels(read_array(path) if path.is_file() else str(labels))


def _accuracy(
    original: Path,
    swapped: Path,
    batches: Iterable[Mapping[str, Any]],
    labels: npt.NDArray[Any],
    how: CheckOptions,
    progress: Progress,
) -> Accuracy:
    """Measure how often the original and the swapped network are right."""
    outputs = [port.name for port in read_signature(original).outputs if port.kind == "tensor"]
    options: dict[str, Any] = {
        "provider": how.provider,
        "provider_options": how.provider_options,
        "timeout": how.timeout,
        "alike": True,
    }
    with (
        Session(original, label="the original model", **options) as before,
        Session(swapped, label="the swapped model", **options) as after,
    ):
        return measure_accuracy(before, after, batches, labels, outputs, progress)

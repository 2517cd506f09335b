"""A swap from beginning to end: load, plan, calibrate, apply, check, and only then save."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normswap.check.options import CheckOptions
from normswap.check.verdict import Verdict
from normswap.errors import UsageError, require_choice
from normswap.files.beside import placed
from normswap.files.scratch import scratch_folder
from normswap.graph.build import build_network
from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.carried import require_finite
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.inlined import inlined
from normswap.groupnorm.intent import batchnorm_places, intents_of
from normswap.groupnorm.planner import plan_swap, require_elements, with_timings
from normswap.groupnorm.race import measure
from normswap.groupnorm.state_dict import parameters_of, state_dict_of
from normswap.groupnorm.state_file import encoded, require_kind
from normswap.groupnorm.widths import (
    has_normalizing_functions,
    must_be_inlined,
    one_width_each,
)
from normswap.groupnorm.words import AUTO, FASTEST
from normswap.inputs.data import open_data
from normswap.inputs.signature import read_signature
from normswap.inspection.gate import gate
from normswap.model import load
from normswap.model.sources import read_bytes
from normswap.progress import Progress, silent
from normswap.runtime.survey import resolve
from normswap.workflows.calibration import calibrated, divide, plain_drift
from normswap.workflows.check import file_of
from normswap.workflows.ending import Ending
from normswap.workflows.normalizing import normalized
from normswap.workflows.outlook import before_swap
from normswap.workflows.regrouping import regrouped
from normswap.workflows.result import advising, require_sound
from normswap.workflows.sameness import Sameness, same_as
from normswap.workflows.swap_check import check_swap
from normswap.workflows.swap_data import open_swap_data
from normswap.workflows.swap_report import SwapReport, SwapResult
from normswap.workflows.unfold import UnfoldResult
from normswap.workflows.unfold import unfold as put_back

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from normswap.groupnorm.calibrate import CalibrationOptions
    from normswap.groupnorm.intent import Intent
    from normswap.groupnorm.options import SwapOptions
    from normswap.groupnorm.plan import SwapPlan
    from normswap.inputs.sets import Data
    from normswap.inspection.gate import FailOn
    from normswap.model import Model
    from normswap.model.sources import Source
    from normswap.runtime.child import Child
    from normswap.workflows.normalizing import Swappable
    from normswap.workflows.result import Output
    from normswap.workflows.swap_data import SwapData


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
    with ExitStack() as stack:
        read, model, plan, is_inlined = _planned(stack, source, options, progress)
        failing = gate(fail_on, read, kept=plan.untouched)  # of the model as it was given
        ordered = stack.enter_context(regrouped(model, plan, progress))
        network = stack.enter_context(normalized(ordered.model, ordered.plan, progress))
        plan = network.plan
        if options.form == FASTEST:
            plan = _raced(network.path, plan, how, None, progress)
    report = replace(_planned_report(read, plan), failing=failing, regrouping=ordered.found)
    return replace(report, inlined=is_inlined)


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
    """Do what :func:`normswap.bn_to_gn` says, as its options were understood.

    Parameters
    ----------
    check : CheckOptions, optional
        How the result is checked; not at all if it is left out.
    how : CheckOptions, optional
        How forms are timed, where the fastest is asked for; as the check is, if it is left out.
    data : path, feeds or iterable of feeds, optional
        The calibration uses it, and so do the check and the drift, where nothing else is given for
        them.
    calibration : CalibrationOptions, optional
        How layers are fitted to the data; if it is left out they are not.

    All others are those of :func:`normswap.bn_to_gn`, and so are the result and the errors.
    """
    if certificate is not None:
        _require_files(regroup=options.regroup, unfold=unfold)
    ending = Ending.of(
        source, output, check, certificate, overwrite=overwrite, copy=copy, progress=progress
    )
    mapped = None
    if state_dict is not None:
        mapped = _mappable(state_dict, unfold=unfold, overwrite=overwrite)
        options = replace(options, absorb=False)
    data = list(data) if isinstance(data, Iterator) else data  # which is gone through again
    back = _put_back(source, data, samples, calibration, check, progress) if unfold else None
    with ExitStack() as stack:
        read, model, plan, is_inlined = _planned(
            stack, back or source, options, progress, inline=mapped is not None
        )
        report = replace(_planned_report(read, plan), inlined=is_inlined)
        if back is not None:
            count = len(back.report.plan.places)
            report = replace(report, unfolded=count, size_before=back.report.size_before)
        if not plan.swaps and ending.is_at_once:
            return SwapResult(*ending.as_it_is(report, read))
        fit = calibration if data is not None else None
        if ending.certificate is not None and fit is not None and fit.refit:
            raise UsageError(
                "A certificate can't be made for a swap that fits weights: it certifies the "
                "weights of the original.",
                tip="Leave out either the certificate or --refit.",
            )
        if ending.certificate is not None and is_inlined:
            why, other = "calls of a function set attributes of its normalization", ""
            if mapped is not None:
                why, other = "weights for torch need it", " or --map (state_dict=)"
            raise UsageError(
                f"A certificate can't be made for a swap that inlines functions, and here {why}.",
                tip=f"Leave out the certificate{other}.",
            )
        if model is not read and check is not None:
            with read.original() as original, model.original() as changed:
                same = same_as(original, changed, check, progress, what="separated")
            report = replace(report, separation=same)
            require_sound(report, same.reasons)
        parameters = None if mapped is None else parameters_of(model)
        ready = _prepared(
            stack,
            model,
            report,
            data=data,
            evaluate=evaluate,
            labels=labels,
            samples=samples,
            fit=fit,
            check=check,
            how=how,
            progress=progress,
        )
        weights = None
        if parameters is not None and mapped is not None:
            plan = ready.report.plan
            arrays, told = state_dict_of(parameters, ready.model, plan, str(mapped))
            weights = encoded(arrays, mapped)
            ready = replace(ready, report=replace(ready.report, state_dict=told))
        report = _written(
            ready, ending, read, how or check, placed(weights, mapped), apart=model is not read
        )
    return SwapResult(report, ending.target)


def _written(
    ready: _Prepared,
    ending: Ending,
    read: Model,
    how: CheckOptions | None,
    beside: AbstractContextManager[None],
    *,
    apart: bool,
) -> SwapReport:
    """Apply a swap, check it and let it take its place; return the report on it.

    A certificate is of the model that was read, also where its functions were told apart.
    """
    report, plan = ready.report, ready.report.plan
    apply = partial(apply_swaps, plan, ready.model)
    with ending.staged(ready.model, apply, edited=bool(plan.swaps)) as (staged, child):
        if ending.check is not None:
            report = _checked(report, read, ready, staged.path, ending, ending.check, child)
        runs = how or CheckOptions(plan.options.provider)
        right = ready.data.accuracy(ready.network.path, staged.path, runs, ending.progress)
        report = replace(report, accuracy=right, notes=ready.data.notes)
        require_sound(report, () if report.check is None else report.check.reasons)
        return ending.committed(
            report,
            report.check,
            read,
            staged,
            original=None if apart else ready.original,
            swapping=ready.intents,
            beside=beside,
        )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A model that only has to be swapped, and what that should come to.

    Attributes
    ----------
    report : SwapReport
        With the plan that is carried out.
    network : Swappable
        What is swapped, as it was before it was fitted to data.
    model : Model
        What is swapped.
    original : Path
        The model of which the result is a reading.
    intents : tuple of Intent
        As what it is read.
    """

    report: SwapReport
    network: Swappable
    model: Model
    original: Path
    intents: tuple[Intent, ...]
    data: SwapData


def _prepared(
    stack: ExitStack,
    model: Model,
    report: SwapReport,
    *,
    data: Data | None,
    evaluate: Data | None,
    labels: str | os.PathLike[str] | npt.NDArray[Any] | None,
    samples: int | None,
    fit: CalibrationOptions | None,
    check: CheckOptions | None,
    how: CheckOptions | None,
    progress: Progress,
) -> _Prepared:
    """Permute, normalize and fit a model, as far as that is wanted; what it becomes is on a stack.

    Raises
    ------
    NotEquivalentError, InconclusiveError
        What it became is another function, or that can't be told.
    """
    ordered = stack.enter_context(
        regrouped(model, report.plan, progress, data=data, samples=samples, fit=fit, check=check)
    )
    places = batchnorm_places(ordered.model)
    network = stack.enter_context(normalized(ordered.model, ordered.plan, progress, fit))
    report = replace(report, plan=network.plan, regrouping=ordered.found, permutation=ordered.check)
    require_sound(report, () if ordered.check is None else ordered.check.reasons)
    given = open_swap_data(network.path, data, evaluate, labels, samples, fit)
    fitted = network
    if fit is not None and given.parts is not None:
        runs = how or check or CheckOptions(network.plan.options.provider)
        given.require_told(network.path, runs)
        if check is not None and given.shown is not None:
            before = plain_drift(network.path, network.plan, given.shown, check)
            report = replace(report, uncalibrated=before)
        fitted = stack.enter_context(calibrated(network, given.parts, fit, progress))
        report = replace(report, calibrated=fitted.calibrated, fit=fitted.fit)
    plan = fitted.plan
    if plan.options.form == FASTEST:
        plan = _raced(fitted.path, plan, how or check, given.shown, progress)
    report = replace(report, plan=plan, evaluated=given.evaluated)
    if fitted.path == network.path:
        intents = intents_of(ordered.plan, plan, places)
        original = network.source or network.path
        return _Prepared(report, network, fitted.model, original, intents, given)
    # It has other weights, so what the swap is a reading of is the fitted network itself.
    if check is not None and network.source is not None:
        same = same_as(network.source, network.path, check, progress, what="normalized")
        report = replace(report, normalization=same)
        require_sound(report, same.reasons)
    own = tuple(replace(swap, number=None, statistics=None) for swap in plan.swaps)
    read = replace(plan, swaps=own)
    intents = intents_of(read, read, batchnorm_places(fitted.model))
    return _Prepared(report, network, fitted.model, fitted.path, intents, given)


def _checked(
    report: SwapReport,
    read: Model,
    ready: _Prepared,
    written: Path,
    ending: Ending,
    check: CheckOptions,
    child: Child | None,
) -> SwapReport:
    """Return the report with the check of what was written."""
    with advising():
        found = check_swap(
            ready.original,
            written,
            report.plan,
            ready.intents,
            check,
            network=ready.network.path,
            names=(str(read.path or read.name), ending.name),
            batches=ready.data.shown,
            fed=ending.certificate is None,
            child=child,
            progress=ending.progress,
        )
    report = replace(report, check=found)
    if ready.original == ready.network.source and found.verdict is Verdict.EQUIVALENT:
        # What was written is the original, its statistics before its groups.
        same = Sameness(found.verdict, proved=found.is_proved)
        report = replace(report, normalization=same)
    return report


def _require_files(*, regroup: bool, unfold: bool) -> None:
    """Refuse a certificate of what no two files are."""
    if regroup:
        raise UsageError(
            "A certificate can't be made for a swap that permutes channels.",
            tip="Leave out either the certificate or the regrouping (--regroup).",
        )
    if unfold:
        raise UsageError(
            "A certificate needs the swapped model in a file, but --unfold makes it in memory.",
            tip="Write the model with `normswap unfold` first, and swap that file.",
        )


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


def _put_back(
    source: Source,
    data: Data | None,
    samples: int | None,
    calibration: CalibrationOptions | None,
    check: CheckOptions | None,
    progress: Progress,
) -> UnfoldResult:
    """Put BatchNormalizations back, with the statistics of the samples that are not held out."""
    source = io.BytesIO(read_bytes(source)) if hasattr(source, "read") else source
    part: Data | None = data
    if data is not None and calibration is not None:
        with file_of(source) as path:
            signature = read_signature(path)
            given = open_data(data, signature, samples=samples, units=calibration.units)
            part, _ = divide(given, signature, calibration)
        if isinstance(source, io.BytesIO):
            source.seek(0)
    return put_back(source, calibrate=part, check=check, progress=progress)


def _planned(
    stack: ExitStack,
    source: Source | UnfoldResult,
    options: SwapOptions,
    progress: Progress,
    *,
    inline: bool = False,
) -> tuple[Model, Model, SwapPlan, bool]:
    """Plan a swap; refuse one that would carry a constant on that is not finite.

    Parameters
    ----------
    inline : bool
        Whether functions with normalizations are inlined, so that their nodes read parameters under
        the names of these. Where they must be, they are in any case.

    Returns
    -------
    Model
        As it was read.
    Model
        That is swapped: the same, or one whose functions have one width each or are inlined, which
        lies in a temporary file as long as the stack is open.
    SwapPlan
        For that.
    bool
        Whether functions were inlined.
    """
    require_choice("form", options.form, [AUTO, FASTEST, *FORMS])
    progress("reading the model")
    if isinstance(source, UnfoldResult):
        read = load(source.model, name=source.report.source)
    else:
        read = load(source)
    progress("planning")
    model = read
    is_inlined = False
    if has_normalizing_functions(read):
        path = stack.enter_context(read.original())
        is_inlined = inline or must_be_inlined(read, for_orders=options.regroup)
        if is_inlined:
            again = load(path, name=read.name)
            model = inlined(again, stack.enter_context(scratch_folder()))
        else:
            model = stack.enter_context(one_width_each(path, read.name)) or read
    plan = plan_swap(model, replace(options, provider=resolve(options.provider)))
    require_elements(plan)
    if plan.swaps:
        targets = {swap.key for swap in plan.swaps}
        require_finite(model.name, build_network(model), targets, "swapped")
    elif model is not read:  # which is given back
        model, plan = read, replace(plan, fingerprint=read.fingerprint())
        is_inlined = False
    return read, model, plan, is_inlined


def _planned_report(model: Model, plan: SwapPlan) -> SwapReport:
    outlook = before_swap(model, plan)
    return SwapReport(model.name, None, plan, size_before=model.size, outlook=outlook)


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

"""The part of a swap that learns from data: what is held out, what is fitted, what it brought."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from normswap.check.options import CheckOptions
from normswap.files.scratch import scratch_folder
from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.calibrate import CalibrationOptions, calibrate
from normswap.groupnorm.drift import DriftReport, Outputs, measure_drift
from normswap.groupnorm.planner import plan_swap
from normswap.groupnorm.refit.holdout import Part, hold_out
from normswap.groupnorm.refit.outcome import Searched
from normswap.groupnorm.refit.walk import RefitOptions, refit
from normswap.groupnorm.refit.writing import write_constants
from normswap.groupnorm.side_by_side import side_by_side
from normswap.inputs.dims import RequestedSizes, batch_is_free
from normswap.inputs.signature import read_signature
from normswap.model import load, stage
from normswap.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from normswap.groupnorm.options import FittedAffine
    from normswap.groupnorm.plan import SwapPlan
    from normswap.inputs.data import Dataset
    from normswap.inputs.signature import Signature
    from normswap.progress import Progress
    from normswap.workflows.normalizing import Swappable

    Affines = dict[tuple[str, str], FittedAffine]


def divide(data: Dataset, signature: Signature, how: CalibrationOptions) -> tuple[Part, Part]:
    """Return the samples that are fitted to, and those that are held out."""
    fixed = not batch_is_free(signature, RequestedSizes({}, {}))
    share = {} if isinstance(how.holdout, str) else {"share": how.holdout}
    return hold_out(data, fixed=fixed, **share)


@contextmanager
def calibrated(
    network: Swappable,
    samples: tuple[Part, Part],
    how: CalibrationOptions,
    progress: Progress,
) -> Iterator[Swappable]:
    """Fit a network to data, and write it anew where weights have changed.

    Parameters
    ----------
    network : Swappable
        As it is before.
    samples : (Part, Part)
        Those to fit to, and those held out.
    """
    fit, held_out = samples
    model, path, plan = network.model, network.path, network.plan
    affines: Affines = {}

    def planned(affines: Affines) -> SwapPlan:
        return plan_swap(model, replace(plan.options, affines=affines), after=network.after)

    if how.one_pass or how.search_groups:
        affines = calibrate(path, plan, fit, how, progress)
    kept = sum(swap.place not in affines for swap in plan.swaps)
    is_all = how.one_pass and not how.refit
    other = _has_other_groups(plan, affines)
    if affines and (is_all or not other):
        drifts = [_snr(path, p, held_out, how) for p in (plan, planned(affines))]
        if not drifts[1] > drifts[0]:
            affines = {}  # what is gained on some samples is lost on others
    if is_all:
        yield replace(network, plan=planned(affines), calibrated=len(affines))
        return
    steps = RefitOptions(weights=how.refit, timeout=how.timeout)
    refitted = refit(path, planned(affines), fit, held_out, steps, progress)
    found = refitted.fit
    if how.search_groups:  # what numbers of groups are worth shows once all is fitted
        asked = refit(path, plan, fit, held_out, steps, progress) if other else refitted
        searched = Searched(asked.snr, refitted.snr if other else None, kept)
        if other and not refitted.snr > asked.snr:
            refitted, affines = asked, {}
        found = replace(refitted.fit, searched=searched)
    for place, affine in refitted.affines.items():
        before = affines.get(place)
        groups = None if before is None else before.num_groups
        affines[place] = replace(affine, num_groups=groups)
    if not refitted.constants:
        yield replace(network, plan=planned(affines), calibrated=len(affines), fit=found)
        return
    with scratch_folder() as folder:
        write_constants(model, refitted.constants)
        path = folder / "refitted.onnx"
        with stage(model, path) as staged:
            staged.commit()
        model = load(path, name=model.name)
        plan = planned(affines)
        yield replace(
            network, model=model, path=path, plan=plan, calibrated=len(affines), fit=found
        )


def _has_other_groups(plan: SwapPlan, affines: Affines) -> bool:
    """Whether a layer has another number of groups by what was fitted than by the plan."""
    known = {swap.place: swap.num_groups for swap in plan.swaps}
    return any(fitted.num_groups != known[place] for place, fitted in affines.items())


def _snr(path: Path, plan: SwapPlan, samples: Part, how: CalibrationOptions) -> float:
    """Return how near a swap is to the original, in dB: the mean over its outputs."""
    drift = plain_drift(path, plan, samples, CheckOptions(timeout=how.timeout))
    return math.fsum(each.snr for each in drift.outputs.values()) / max(len(drift.outputs), 1)


def plain_drift(
    original: Path, plan: SwapPlan, batches: Iterable[Mapping[str, Any]], check: CheckOptions
) -> DriftReport:
    """Measure how far a swap, as it is planned, is from the original on a person's own data."""
    model = load(original)
    apply_swaps(plan, model)
    with scratch_folder() as folder:
        path = folder / "swapped.onnx"
        with stage(model, path) as staged:
            staged.commit()
        layers = plan.visible_layers
        outputs = Outputs.of(read_signature(original).outputs)
        names = [layer.y for layer in layers]
        with side_by_side(original, path, check, layers) as (before, after):
            return measure_drift(before, after, batches, outputs, names, silent, own=True)

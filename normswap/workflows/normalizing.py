"""The step of a swap that normalizes first: the statistics of layers go to what is before them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.files.scratch import scratch_folder
from normswap.groupnorm.intent import torn_apart
from normswap.groupnorm.normalize import normalize
from normswap.groupnorm.planner import plan_swap
from normswap.model import load, stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from normswap.groupnorm.calibrate import CalibrationOptions
    from normswap.groupnorm.normalize import Normalized
    from normswap.groupnorm.plan import SwapPlan
    from normswap.groupnorm.refit.outcome import Fit
    from normswap.model import Model
    from normswap.progress import Progress


@dataclass(frozen=True, slots=True)
class Swappable:
    """What is swapped: a model as it was read, or one that was normalized and is the same function.

    Attributes
    ----------
    model : Model
        Not edited since it was read.
    path : Path
        Where it is.
    plan : SwapPlan
        Of the swap of it.
    source : Path or None
        Where the model is that was normalized; None where none was.
    after : (SwapPlan, Normalized) or None
        The plan for that, and what has become of it.
    calibrated : int
        Number of layers whose affine was fitted to data.
    fit : Fit or None
        What was fitted layer by layer; None where nothing was, or it was in one pass.
    """

    model: Model
    path: Path
    plan: SwapPlan
    source: Path | None = None
    after: tuple[SwapPlan, Normalized] | None = None
    calibrated: int = 0
    fit: Fit | None = None


@contextmanager
def normalized(
    model: Model, plan: SwapPlan, progress: Progress, fit: CalibrationOptions | None = None
) -> Iterator[Swappable]:
    """Normalize a model before it is swapped, if that is wanted; it is not to be used any more.

    A group of one channel forgets all that was done to the channel before, so there is nothing to
    do, unless other numbers of groups are tried. Where scale and bias become others than the
    layer's own, no other layer's statistics may be in them. A layer in a function whose statistics
    could go at one call only is read as one thing, so they stay out at all calls.
    """
    with model.original() as original:
        if not plan.options.normalize or not plan.swaps:
            yield Swappable(model, original, plan)
            return
        progress("normalizing with the statistics first")
        searched = fit is not None and fit.search_groups
        grouped = {s.key for s in plan.swaps if searched or s.num_groups != s.alone.channels}
        owned = fit is None and plan.options.keep_scale and plan.options.keep_bias
        sealed = () if owned else {swap.key for swap in plan.swaps}
        with scratch_folder() as folder:
            path = folder / "normalized.onnx"
            while True:
                after = plan, normalize(model, grouped, sealed=sealed)
                if not after[1].edited:
                    yield Swappable(model, original, plan_swap(model, plan.options, after=after))
                    return
                with stage(model, path, overwrite=True) as staged:
                    staged.commit()
                again = load(path, name=model.name)
                swaps = plan_swap(again, plan.options, after=after)
                torn = torn_apart(swaps)
                if not torn:
                    yield Swappable(again, path, swaps, original, after)
                    return
                grouped -= torn
                model = load(original, name=model.name)

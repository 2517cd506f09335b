"""The step of a swap that chooses groups: permute, and prove that it is the same function."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.files.scratch import scratch_folder
from normswap.groupnorm.planner import plan_swap
from normswap.groupnorm.regroup.regroup import Regrouping, regroup
from normswap.inputs.data import open_data
from normswap.inputs.signature import read_signature
from normswap.model import load, stage
from normswap.workflows.calibration import divide
from normswap.workflows.sameness import Sameness, same_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.check.options import CheckOptions
    from normswap.groupnorm.calibrate import CalibrationOptions
    from normswap.groupnorm.plan import SwapPlan
    from normswap.groupnorm.refit.holdout import Part
    from normswap.inputs.data import Dataset
    from normswap.inputs.sets import Data
    from normswap.model import Model
    from normswap.progress import Progress


@dataclass(frozen=True, slots=True)
class Ordered:
    """A model as it was read, or one whose channels are in another order.

    Attributes
    ----------
    model : Model
        Not edited since it was read.
    plan : SwapPlan
        Of the swap of it.
    found : Regrouping or None
        What was done for its groups, where that was asked for.
    check : Sameness or None
        None where none was asked for, or no channel has moved.
    """

    model: Model
    plan: SwapPlan
    found: Regrouping | None = None
    check: Sameness | None = None


@contextmanager
def regrouped(
    model: Model,
    plan: SwapPlan,
    progress: Progress,
    *,
    data: Data | None = None,
    samples: int | None = None,
    fit: CalibrationOptions | None = None,
    check: CheckOptions | None = None,
) -> Iterator[Ordered]:
    """Permute the channels of a model before it is swapped, if that is wanted.

    Parameters
    ----------
    model : Model
        Not edited since it was read; it is not to be used any more.
    plan : SwapPlan
        Of its swap.
    data : path, feeds or iterable of feeds, optional
        By which channels are compared; without, it is done by weights.
    samples : int, optional
        Use the first so many samples of it.
    fit : CalibrationOptions, optional
        What will be fitted to the data. What is held out there has no say here either.
    check : CheckOptions, optional
        How the result is tested where it can't be proved; neither is done if it is left out.

    Yields
    ------
    Ordered
        The permuted model lies in a temporary file as long as the context is open.

    Raises
    ------
    DataError
        The data doesn't fit the model.
    RunError
        The runtime can't run it.
    """
    if not plan.options.regroup or not plan.swaps:
        yield Ordered(model, plan)
        return
    with model.original() as original, scratch_folder() as folder:
        progress("choosing groups")
        batches: Dataset | Part | None = None
        if data is not None:
            signature = read_signature(original)
            units = None if fit is None else fit.units
            whole = open_data(data, signature, samples=samples, units=units)
            batches = whole if fit is None else divide(whole, signature, fit)[0]
        found = regroup(model, plan, original, batches, progress)
        if not found.orders:
            yield Ordered(model, plan, found)
            return
        path = folder / "permuted.onnx"
        with stage(model, path) as staged:
            staged.commit()
        same = None
        if check is not None:
            orders = found.orders
            same = same_as(original, path, check, progress, what="permuted", orders=orders)
        again = load(path, name=model.name)
        yield Ordered(again, plan_swap(again, plan.options), found, same)

"""The step of a swap that chooses groups: permute, and prove that it is the same function."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from normswap.check.options import CheckOptions
from normswap.check.verdict import Verdict
from normswap.groupnorm.planner import plan_swap
from normswap.groupnorm.regroup.regroup import Regrouping, regroup
from normswap.inputs.data import open_data
from normswap.inputs.signature import drawing_alike, read_signature
from normswap.model import load, stage
from normswap.proof.files import prove_files
from normswap.scratch import scratch_folder
from normswap.workflows.check import check_files
from normswap.workflows.result import advising
from normswap.workflows.sameness import Sameness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from normswap.groupnorm.plan import SwapPlan
    from normswap.inputs.data import Data
    from normswap.model import Model
    from normswap.progress import Progress
    from normswap.proof.reordered import Reordered


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
    check: CheckOptions | None = None,
) -> Iterator[Ordered]:
    """Permute the channels of a model before it is swapped, if that is wanted.

    Parameters
    ----------
    model : Model
        Not edited since it was read; it is not to be used any more.
    plan : SwapPlan
        Of its swap.
    progress : callable
    data : path, feeds or iterable of feeds, optional
        By which channels are compared; without, it is done by weights.
    samples : int, optional
        Use the first so many samples of it.
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
        batches = None
        if data is not None:
            batches = open_data(data, read_signature(original), samples=samples)
        found = regroup(model, plan, original, batches, progress)
        if not found.orders:
            yield Ordered(model, plan, found)
            return
        path = folder / "permuted.onnx"
        with stage(model, path) as staged:
            staged.commit()
        same = None if check is None else _checked(original, path, found.orders, check, progress)
        again = load(path, name=model.name)
        yield Ordered(again, plan_swap(again, plan.options), found, same)


def _checked(
    original: Path,
    permuted: Path,
    orders: Sequence[Reordered],
    check: CheckOptions,
    progress: Progress,
) -> Sameness:
    """Say whether a permuted network is the function that it was."""
    progress("proving that the permuted network is the same function")
    models = drawing_alike(read_signature(original), read_signature(permuted))
    if prove_files(*models, orders=orders).is_whole:
        return Sameness(Verdict.EQUIVALENT, proved=True)
    how = CheckOptions(check.provider, check.provider_options, seed=check.seed)
    how = replace(how, input_shapes=check.input_shapes, timeout=check.timeout)
    names = ("the original model", "the permuted model")
    with advising():
        report = check_files(original, permuted, how, names=names, progress=progress)
    return Sameness(report.verdict, proved=False, reasons=report.reasons)

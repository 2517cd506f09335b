"""Which axes an operator may be told."""

from __future__ import annotations

from normswap.inputs.roles.rule import Allowed, Place, rule, vector

_REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)


@rule(("CumSum", 1), ("CumProd", 1))
def _axis(place: Place) -> Allowed:
    shape = place.data()
    return Allowed(-len(shape), len(shape) - 1) if shape else Allowed(0, 0)


@rule(("Slice", 3), ("Pad", 3), *((op, 1) for op in _REDUCTIONS))
def _axes(place: Place) -> Allowed:
    """Allow distinct axes, some counted from the end."""
    rank = len(place.data() or (0,))
    return _some_axes(place, list(range(rank)), rank)


@rule(("Squeeze", 1))
def _axes_of_one(place: Place) -> Allowed:
    shape = place.data() or (1,)
    return _some_axes(place, [axis for axis, size in enumerate(shape) if size <= 1], len(shape))


@rule(("Unsqueeze", 1))
def _axes_to_come(place: Place) -> Allowed:
    rank = len(place.data() or ()) + place.count
    made = place.made(rank)
    free = list(range(rank))
    if made is not None:
        free = [axis for axis in free if made[axis] == 1]
    return _some_axes(place, free, rank)


def _some_axes(place: Place, candidates: list[int], rank: int) -> Allowed:
    chosen = place.rng.permutation(candidates)[: place.count]
    back = place.rng.random() < 0.5
    return vector([axis - rank if back else axis for axis in chosen], 0, 0)


@rule(("DFT", 2))
def _signal_axis(place: Place) -> Allowed:
    return Allowed(0, max(len(place.data() or ()) - 2, 0))

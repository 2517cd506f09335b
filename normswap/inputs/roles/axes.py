"""Which axes an operator may be told."""

from __future__ import annotations

from normswap.inputs.roles.rule import REDUCE, Allowed, Slot, rule, vector


@rule(("CumSum", 1), ("CumProd", 1))
def _axis(slot: Slot) -> Allowed:
    shape = slot.data()
    return Allowed(-len(shape), len(shape) - 1) if shape else Allowed(0, 0)


@rule(("Slice", 3), ("Pad", 3), (REDUCE, 1))
def _axes(slot: Slot) -> Allowed:
    """Allow distinct axes, some counted from the end."""
    rank = len(slot.data() or (0,))
    return _some_axes(slot, list(range(rank)), rank)


@rule(("Squeeze", 1))
def _axes_of_one(slot: Slot) -> Allowed:
    shape = slot.data() or (1,)
    return _some_axes(slot, [axis for axis, size in enumerate(shape) if size <= 1], len(shape))


@rule(("Unsqueeze", 1))
def _axes_to_come(slot: Slot) -> Allowed:
    rank = len(slot.data() or ()) + slot.count
    made = slot.made(rank)
    free = list(range(rank))
    if made is not None:
        free = [axis for axis in free if made[axis] == 1]
    return _some_axes(slot, free, rank)


def _some_axes(slot: Slot, candidates: list[int], rank: int) -> Allowed:
    chosen = slot.rng.permutation(candidates)[: slot.count]
    back = slot.rng.random() < 0.5
    return vector([axis - rank if back else axis for axis in chosen], 0, 0)


@rule(("DFT", 2))
def _signal_axis(slot: Slot) -> Allowed:
    return Allowed(0, max(len(slot.data() or ()) - 2, 0))

"""Operators to which elements of an axis are a set, and those that read its size alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.graph.reasons import Reason
from normswap.permuting.operators.at import X, Y
from normswap.semantics.families import RANDOM_LIKE

if TYPE_CHECKING:
    from normswap.permuting.operators.at import At

_SETS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip


def _reduced(at: At) -> None:
    if at.port not in (X, Y):
        raise at.blocked("uses the tensor as its axes")
    rank = len(at.shape(X))
    axes = at.attr("axes", None)
    if at.node.input(1) is not None:
        axes = at.integers(1)
    if not axes:
        axes = [] if at.attr("noop_with_empty_axes", 0) else range(rank)
    _without(at, {int(axis) % rank for axis in axes}, rank)


def _index(at: At) -> None:
    rank = len(at.shape(X))
    axis = int(at.attr("axis", 0)) % rank
    if not at.is_output and at.axis == axis:
        raise at.blocked(f"returns indices along axis {axis}")
    _without(at, {axis}, rank)


def _without(at: At, axes: set[int], rank: int) -> None:
    """Tie the axes that are left; to one that goes, the order of its elements is nothing."""
    kept = list(range(rank)) if at.attr("keepdims", 1) else sorted({*range(rank)} - axes)
    if not at.is_output and at.axis in axes:
        return
    if len(kept) != len(at.shape(Y)):
        raise at.blocked("has an output of the wrong rank", Reason.MALFORMED)
    at.roles({X: [str(axis) for axis in range(rank)], Y: [str(axis) for axis in kept]})


def _size_alone(at: At) -> None:
    if at.is_output:
        raise at.blocked("makes elements that depend on their position")


def _filled(at: At) -> None:
    if not at.is_output:
        raise at.blocked("uses the tensor as its shape")
    # All that it makes is one value.


FOLLOW = {
    **dict.fromkeys(_SETS, _reduced),
    **dict.fromkeys(("ArgMax", "ArgMin"), _index),
    **dict.fromkeys(RANDOM_LIKE | {"EyeLike", "Shape", "Size"}, _size_alone),
    "ConstantOfShape": _filled,
}

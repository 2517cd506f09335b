"""Tensors whose elements along an axis sum to one, such as the weights of an attention.

What is summed with such weights is averaged: ``P @ (V + t) = P @ V + t``, so that a shift passes. A
row that a mask leaves nothing of is NaN, with the shift on either side; one that is put in order
after the Softmax (NaN to 0) is no average any more, and what does that is not looked through. Of an
axis of length 0 nothing is averaged, and a sum is 0; lengths that are open are taken for 1 or more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.dtypes import is_float
from normswap.graph.mode import may_drop

if TYPE_CHECKING:
    from normswap.graph.network import Node, Value


def sums_to_one(value: Value | None, axis: int) -> bool:
    """Whether the elements of a tensor sum to one along an axis, whatever they are.

    Parameters
    ----------
    value : Value or None
    axis : int
        Counted from the end where it is negative.
    """
    while value is not None and value.rank is not None:
        rank, node = value.rank, value.producer
        axis %= rank
        if node is None or node.domain or node.refers_to_attributes or node.out is not value:
            return False
        before = node.input(0)
        match node.op:
            case "Softmax" | "Hardmax":
                return axis in _normalized(node, rank)
            case "Identity":
                pass
            case "Dropout" if not may_drop(node):
                pass
            case "Cast" | "CastLike" if before is not None and is_float(before.data_type or 0):
                if not is_float(value.data_type or 0):
                    return False  # of 0.9 an integer keeps nothing
            case "Transpose":
                axis = node.attr("perm", range(rank)[::-1])[axis]
            case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" if axis == rank - 1:
                # Rows stay whole where they are as long as before.
                length = value.shape[-1] if value.shape else None
                if before is None or not before.shape or not isinstance(length, int):
                    return False
                if before.shape[-1] != length:
                    return False
                axis = -1
            case _:
                return False
        value = before
    return False


def _normalized(node: Node, rank: int) -> tuple[int, ...]:
    """Return the axis along which a Softmax or Hardmax sums to one, if that is one.

    Until opset 12 it is all axes from ``axis`` on that together do.
    """
    if node.opset >= 13:
        return (node.attr("axis", -1) % rank,)
    axis = node.attr("axis", 1) % rank
    return (axis,) if axis == rank - 1 else ()

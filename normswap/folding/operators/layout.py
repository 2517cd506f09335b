"""How operands line up: ONNX broadcasts from the right, affines are laid out from the left."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer, Up
from normswap.folding.edits import Replace
from normswap.graph.affine import Affine
from normswap.graph.evaluate import constant_of
from normswap.graph.formulas import Scaled
from normswap.graph.network import Node, Use, Value
from normswap.graph.reasons import Blocked, Reason, unless_blocked

if TYPE_CHECKING:
    from normswap.dtypes import Wide


LARGEST_MOVED = 1 << 16
"""Elements of a constant that moves along with an affine, or grows to take one, at most."""


def strip_leading(array: Wide, least: int = 1) -> Wide:
    """Drop leading axes of length 1 down to ``least`` axes.

    The result broadcasts from the right as the array did.
    """
    drop = 0
    while array.ndim - drop > least and array.shape[drop] == 1:
        drop += 1
    return array.reshape(array.shape[drop:])


def output_rank(node: Node, affine: Affine) -> int | None:
    """Return the rank of a broadcasting operator's output.

    An affine that varies along no axis fits any rank.
    """
    if node.out.rank is not None:
        return node.out.rank
    return 0 if affine.ndim == 0 else None


def to_operand(node: Node, slot: int, affine: Affine, rank: int) -> Answer:
    """Hand an affine of a broadcasting operator's output to one of its operands.

    Parameters
    ----------
    node : Node
    slot : int
    affine : Affine
        Over the output.
    rank : int
        Rank of the output.

    Raises
    ------
    Blocked
        If the operand is broadcast along an axis where the affine varies.
    """
    value = node.inputs[slot]
    if value is None:
        raise AssertionError("an operand that is left out takes nothing")
    if affine.is_identity:
        return Answer()
    constant = unless_blocked(constant_of, value)
    if constant is not None:
        scale, shift = (strip_leading(a, len(constant.shape)) for a in affine.at(rank))
        grown = math.prod(np.broadcast_shapes(constant.shape, scale.shape, shift.shape))
        if grown > max(LARGEST_MOVED, math.prod(constant.shape)):
            detail = (
                f"{value.name} would have to grow to {grown:,} elements to absorb a scale or shift"
            )
            raise Blocked(Reason.AXIS, value.name, detail)
        changed = Scaled(constant, scale, shift if affine.has_shift else None)
        return Answer((Replace(node.key, slot, changed, value.name),))
    return Answer(goals=(Up(Use(node, slot), for_operand(affine, value, rank)),))


def for_operand(affine: Affine, value: Value, rank: int) -> Affine:
    """Lay an affine of an output out over an operand that is broadcast to it.

    Raises
    ------
    Blocked
        If that is (or may be) along an axis where the affine varies.
    """
    if affine.ndim == 0:
        return affine
    if value.shape is None:
        raise Blocked(Reason.SHAPE_UNKNOWN, value.name, f"the shape of {value.name} is not known")
    lead = rank - len(value.shape)
    scale, shift = affine.at(rank)
    for axis in range(rank):
        size = max(scale.shape[axis], shift.shape[axis])
        if size != 1 and (axis < lead or value.shape[axis - lead] != size):
            detail = f"{value.name} is or may be broadcast along the axis that is scaled"
            raise Blocked(Reason.AXIS, value.name, detail)
    return Affine(scale.reshape(scale.shape[lead:]), shift.reshape(shift.shape[lead:]))


def from_operand(affine: Affine, operand_rank: int, rank: int) -> Affine:
    """Lay an affine of an operand out over the output that it is broadcast to."""
    lead = (1,) * (rank - operand_rank)
    scale, shift = affine.at(operand_rank)
    return Affine(scale.reshape(lead + scale.shape), shift.reshape(lead + shift.shape))

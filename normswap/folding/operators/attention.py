"""Attention: each element of the result is a mean of values, with weights that sum to 1.

So scale and shift pass to V: ``P @ (s*V + t) = s * (P @ V) + t``, where they do not vary along the
positions, which are averaged. A mask may leave nothing of a row, of which runtimes make different
things (NaN, 0, the mean of all); then a shift does not pass. One head of V that several of Q share
takes in what is the same for all of them only. Cached values are appended to V, and stay.

Source: ONNX operator Attention, opsets 23 and 24.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.answers import Answer, Up
from normswap.folding.operators import conditions
from normswap.folding.operators.base import Operator
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.graph.affine import Affine

V, MASK, PAST_VALUE, LENGTHS = 2, 3, 5, 6
"""Inputs of the operator."""


class Attention(Operator):
    """Carries an affine of samples, heads and their elements to V."""

    ops = ("Attention",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        values, queries = node.input(V), node.input(0)
        if values is None or values.rank is None or queries is None:
            raise self.blocked(node, "has an input V of unknown rank", Reason.SHAPE_UNKNOWN)
        if node.input(PAST_VALUE) is not None:
            raise self.blocked(node, "appends its values to those of a cache (past_value)")
        if node.input(MASK) is not None or node.input(LENGTHS) is not None:
            why = "has a mask, which may exclude a whole row"
            conditions.require_no_shift(node, affine, why)
        conditions.require_only_along(node, affine, *_axes(node, values.rank))
        return Answer(goals=(Up(Use(node, V), affine),))


def _axes(node: Node, rank: int) -> tuple[int, ...]:
    """Return the axes of the result that are axes of V: (N, heads, positions, D) or heads * D."""
    queries, values = node.input(0), node.input(V)
    if rank == 3:
        queried, valued = node.attr("q_num_heads", 0), node.attr("kv_num_heads", 0)
        return (0, 2) if queried == valued else (0,)
    shapes = [value.shape if value is not None else None for value in (queries, values)]
    queried, valued = (shape[1] if shape else None for shape in shapes)
    return (0, 1, 3) if isinstance(queried, int) and queried == valued else (0, 3)

"""Max, Min and Where: each element of the result is that of one operand.

So ``s*max(a, b) + t = max(s*a + t, s*b + t)`` for s >= 0, and for a Where whatever s is. Up, every
operand takes the affine, constants among them: a Max with 0, which is a Relu, becomes one with t.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normswap.folding.answers import Answer, Goal
from normswap.folding.operators import conditions
from normswap.folding.operators.base import Operator
from normswap.folding.operators.layout import output_rank, to_operand
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.folding.edits import Edit
    from normswap.graph.affine import Affine
    from normswap.graph.network import Node


class Where(Operator):
    """Carries everything up to both sides."""

    ops: ClassVar[tuple[str, ...]] = ("Where",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        return self._to_all(node, affine, range(1, 3))

    def _to_all(self, node: Node, affine: Affine, slots: range) -> Answer:
        rank = output_rank(node, affine)
        if rank is None:
            raise self.blocked(node, "has an output of unknown rank", Reason.SHAPE_UNKNOWN)
        edits: list[Edit] = []
        goals: list[Goal] = []
        for slot in slots:
            answer = to_operand(node, slot, affine, rank)
            edits += answer.edits
            goals += answer.goals
        return Answer(tuple(edits), tuple(goals), note="every input: s*x + t")


class Max(Where):
    """Carries everything up where no scale is negative."""

    ops = ("Max", "Min")

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        conditions.require_no_negative_scale(node, affine)
        return self._to_all(node, affine, range(len(node.inputs)))

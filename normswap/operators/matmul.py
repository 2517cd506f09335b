"""MatMul with one constant operand: ``Y = X @ W`` scales columns, ``Y = W @ X`` scales rows.

The operand's own axes, batch axes included, may carry the scale; a shift becomes an Add after it
(an Add that is there already takes the shift before it comes here).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.answers import Answer, Block
from normswap.edits import Edit, Insert, Replace
from normswap.evaluate import constant_of
from normswap.expressions import Expression, Filled, Scaled
from normswap.operators.base import Answers, Operator
from normswap.operators.layout import strip_leading
from normswap.reasons import Reason

if TYPE_CHECKING:
    from normswap.affine import Affine
    from normswap.graph import Node


class MatMul(Operator):
    """Absorbs an affine along the axes that its constant operand makes."""

    ops = ("MatMul",)

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        rank = node.out.rank
        if rank is None:
            yield self.block(node, "has an output of unknown rank", Reason.SHAPE_UNKNOWN)
            return
        constants = [(slot, constant_of(node.input(slot))) for slot in (1, 0)]
        blocks = [found for _, found in constants if isinstance(found, Block)]
        if len(blocks) == 2:
            yield self.block(node, "has no constant operand", Reason.NOT_CONSTANT)
            return
        for slot, found in constants:
            if isinstance(found, Expression):
                yield self._absorb(node, slot, found, affine, rank)

    def _absorb(
        self, node: Node, slot: int, operand: Expression, affine: Affine, rank: int
    ) -> Answer | Block:
        # The matrix axis of the output that this operand does not make: it sums over that of the
        # operand, and scaling it is up to the other one.
        foreign = rank - 2 if slot == 1 else rank - 1
        if len(operand.shape) < 2 or affine.ndim > rank or affine.varies_along(foreign):
            side = "right" if slot == 1 else "left"
            return self.block(node, f"can't scale that axis by its {side} operand", Reason.AXIS)
        s, t = affine.at(rank)
        edits: list[Edit] = []
        if affine.has_scale:
            factor = strip_leading(s, 2)
            lead = factor.ndim - len(operand.shape)
            own = operand.shape[:-2]
            batch = factor.shape[max(lead, 0) : -2]
            if lead > 0 or any(
                f not in (1, o) for f, o in zip(batch[::-1], own[::-1], strict=False)
            ):
                return self.block(node, "would need a larger weight per batch entry", Reason.AXIS)
            edits.append(
                Replace(node.key, slot, Scaled(operand, factor), node.inputs[slot].name)  # type: ignore[union-attr]
            )
        if affine.has_shift:
            shift = Filled(strip_leading(t), operand.data_type)
            edits.append(Insert(node.key, 0, "Add", shift, f"{node.title}_shift"))
        return Answer(tuple(edits), note="W *= s, and + t")

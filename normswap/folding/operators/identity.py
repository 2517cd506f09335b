"""Identity, and Dropout in inference: the affine passes as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators.base import Operator
from normswap.folding.operators.carrier import Carrier
from normswap.graph.mode import may_drop
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.graph.affine import Affine


class Identity(Carrier):
    """Carries everything."""

    ops = ("Identity",)


class Dropout(Operator):
    """Carries everything in inference.

    In training mode (an input from opset 12 on, ``is_test=0`` before opset 7) it draws a mask.
    """

    ops = ("Dropout",)
    right_up = right_down = (1,)  # the mask, which no value decides

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        if may_drop(node):
            raise self.blocked(node, "is or may be in training mode", Reason.TRAINING_MODE)
        return Answer(goals=(Up(Use(node, 0), affine),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0 or may_drop(node) or node.outputs[0] is None:
            raise self.blocked(node, "is or may be in training mode", Reason.TRAINING_MODE)
        return Answer(goals=(Down(node.outputs[0], affine),))

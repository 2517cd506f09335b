"""Identity, and Dropout in inference: the affine passes as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators.base import Operator
from normswap.graph.evaluate import constant_source
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason, unless_blocked

if TYPE_CHECKING:
    from normswap.graph.affine import Affine


class Identity(Operator):
    """Carries everything."""

    ops = ("Identity",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        del index
        return Answer(goals=(Up(Use(node, 0), affine),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        del slot
        return Answer(goals=(Down(node.out, affine),))


class Dropout(Operator):
    """Carries everything in inference.

    In training mode (an input from opset 12 on, ``is_test=0`` before opset 7) it draws a mask.
    """

    ops = ("Dropout",)
    right_up = right_down = (1,)  # the mask, which no value decides

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        del index
        if self.in_training(node):
            raise self.blocked(node, "is (or may be) in training mode", Reason.TRAINING_MODE)
        return Answer(goals=(Up(Use(node, 0), affine),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0 or self.in_training(node) or node.outputs[0] is None:
            raise self.blocked(node, "is (or may be) in training mode", Reason.TRAINING_MODE)
        return Answer(goals=(Down(node.outputs[0], affine),))

    @staticmethod
    def in_training(node: Node) -> bool:
        """Whether the node draws a mask, or may do so."""
        if node.opset < 7:
            return not node.attr("is_test", 0)
        mode = node.input(2)
        if mode is None:
            return False
        source = unless_blocked(constant_source, mode)
        return source is None or bool(source.load().any())

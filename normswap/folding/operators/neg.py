"""Neg: ``s * (-x) + t = -(s*x - t)``."""

from __future__ import annotations

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators.base import Operator
from normswap.graph.affine import Affine
from normswap.graph.network import Node, Use


class Neg(Operator):
    """Carries everything; the shift changes its sign."""

    ops = ("Neg",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        part = Affine(affine.scale, -affine.shift)
        return Answer(goals=(Up(Use(node, 0), part),), note="s, -t")

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        part = Affine(affine.scale, -affine.shift)
        return Answer(goals=(Down(node.out, part),), note="s, -t")

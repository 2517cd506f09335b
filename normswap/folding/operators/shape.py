"""Shape and Size: they read no values, so an affine of their input is nothing to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.answers import UNREAD, Answer
from normswap.folding.operators.base import Operator

if TYPE_CHECKING:
    from normswap.graph.affine import Affine
    from normswap.graph.network import Node


class Shape(Operator):
    """Absorbs anything that comes down, unchanged."""

    ops = ("Shape", "Size")

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        return UNREAD

"""Expand and Tile: elements are repeated.

Down, each copy has the affine of its original. Up, all copies of an element must have the same; a
constant that is expanded grows by the axes along which they have not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators.base import Operator
from normswap.folding.operators.layout import from_operand, to_operand
from normswap.folding.operators.selection import picked, put_back
from normswap.graph.evaluate import integers_of
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.graph.affine import Affine


class Expand(Operator):
    """Carries an affine along the axes that are not expanded."""

    ops = ("Expand",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        value, rank = node.inputs[0], node.out.rank
        if value is None or rank is None:
            raise self.blocked(node, "has an output of unknown rank", Reason.SHAPE_UNKNOWN)
        return to_operand(node, 0, affine, rank)

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        value, rank = node.inputs[0], node.out.rank
        if slot != 0:
            raise self.blocked(node, f"uses {node.operand(slot).name} as its shape")
        if value is None or value.rank is None or rank is None:
            raise self.blocked(node, "has an output of unknown rank", Reason.SHAPE_UNKNOWN)
        return Answer(goals=(Down(node.out, from_operand(affine, value.rank, rank)),))


class Tile(Operator):
    """Carries an affine; along a repeated axis it is repeated too."""

    ops = ("Tile",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        return self._repeated(node, affine, up=True)

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0:
            raise self.blocked(node, f"uses {node.operand(slot).name} as its repeats")
        return self._repeated(node, affine, up=False)

    def _repeated(self, node: Node, affine: Affine, *, up: bool) -> Answer:
        value, repeats = node.inputs[0], integers_of(node.input(1))
        for axis in range(affine.ndim):
            if not affine.varies_along(axis):
                continue
            shape = None if value is None else value.shape
            size = None if shape is None else shape[axis]
            if shape is None or repeats is None or not isinstance(size, int):
                detail = f"repeats axis {axis} by a number, or of a size, that is not known"
                raise self.blocked(node, detail, Reason.SHAPE_UNKNOWN)
            originals = list(range(size)) * repeats[axis]
            part = (
                put_back(affine, len(shape), axis, originals, size)
                if up
                else picked(affine, len(shape), axis, originals)
            )
            if part is None:
                detail = f"repeats axis {axis}, and the copies have different scales or shifts"
                raise self.blocked(node, detail, Reason.AXIS)
            affine = part
        return Answer(goals=(Up(Use(node, 0), affine) if up else Down(node.out, affine),))

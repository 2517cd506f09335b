"""Transpose: the axes of the affine are permuted with those of the tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators.base import Operator
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.graph.affine import Affine


class Transpose(Operator):
    """Carries everything, with its axes permuted."""

    ops = ("Transpose",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        perm = self._permutation(node)
        if perm is None:
            raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        inverse = np.argsort(perm)
        part = affine.relaid(len(perm), lambda array: array.transpose(inverse))
        return Answer(goals=(Up(Use(node, 0), part),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        perm = self._permutation(node)
        if perm is None:
            raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        part = affine.relaid(len(perm), lambda array: array.transpose(perm))
        return Answer(goals=(Down(node.out, part),))

    @staticmethod
    def _permutation(node: Node) -> list[int] | None:
        perm = node.attr("perm", None)
        if perm is not None:
            return [int(axis) for axis in perm]
        value = node.input(0)
        rank = node.out.rank if value is None or value.rank is None else value.rank
        return None if rank is None else list(range(rank))[::-1]

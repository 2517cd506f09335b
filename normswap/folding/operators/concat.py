"""Concat: every operand takes its part of the affine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer, Down, Goal, Up
from normswap.folding.operators.base import Operator
from normswap.graph.affine import Affine
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.dtypes import Wide
    from normswap.graph.sizes import Dim


class Concat(Operator):
    """Carries an affine in parts."""

    ops = ("Concat",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        rank = self._rank(node)
        if rank is None:
            raise self.blocked(node, "has inputs of unknown rank", Reason.SHAPE_UNKNOWN)
        axis = int(node.attr("axis", 1)) % rank
        if not affine.varies_along(axis):
            return Answer(goals=tuple(Up(Use(node, i), affine) for i in range(len(node.inputs))))
        sizes = self._sizes(node, axis, max(array.shape[axis] for array in affine.at(rank)))
        if sizes is None:
            raise self.blocked(node, "has inputs of unknown size", Reason.SHAPE_UNKNOWN)
        goals: list[Goal] = []
        start = 0
        for slot, size in enumerate(sizes):
            part = affine.relaid(rank, partial(_part, axis=axis, start=start, size=size))
            goals.append(Up(Use(node, slot), part))
            start += size
        return Answer(goals=tuple(goals), note="s, t split by input")

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        rank = self._rank(node)
        axis = None if rank is None else int(node.attr("axis", 1)) % rank
        total = None if axis is None or node.out.shape is None else node.out.shape[axis]
        sizes = None if axis is None else self._sizes(node, axis, total)
        if rank is None or axis is None or sizes is None:
            raise self.blocked(node, "has inputs of unknown size", Reason.SHAPE_UNKNOWN)
        before, own, after = sum(sizes[:slot]), sizes[slot], sum(sizes[slot + 1 :])
        scale, shift = affine.at(rank)
        whole = Affine(
            _padded(scale, axis, before, own, after, 1.0),
            _padded(shift, axis, before, own, after, 0.0),
        )
        return Answer(goals=(Down(node.out, whole),), note="s, t; identity for the other inputs")

    @staticmethod
    def _rank(node: Node) -> int | None:
        ranks = [value.rank for value in (node.out, *node.inputs) if value and value.rank]
        return ranks[0] if ranks else None

    @staticmethod
    def _sizes(node: Node, axis: int, total: Dim) -> list[int] | None:
        """Return the sizes of the operands; a single one that is not known follows from the sum."""
        sizes = [v.shape[axis] if v is not None and v.shape else None for v in node.inputs]
        static = [size for size in sizes if isinstance(size, int)]
        if len(static) == len(sizes):
            return static
        if len(static) < len(sizes) - 1 or not isinstance(total, int):
            return None
        return [size if isinstance(size, int) else total - sum(static) for size in sizes]


def _part(array: Wide, axis: int, start: int, size: int) -> Wide:
    """Cut ``size`` entries out of an axis, unless it is of length 1 and stands for all of them."""
    if array.shape[axis] == 1:
        return array
    return array.take(range(start, start + size), axis)


def _padded(array: Wide, axis: int, before: int, own: int, after: int, rest: float) -> Wide:
    """Widen an axis with ``rest`` on both sides."""
    shape = list(array.shape)
    shape[axis] = before + own + after
    whole = np.full(shape, rest, dtype=np.longdouble)
    whole[(*(slice(None),) * axis, slice(before, before + own))] = array
    return whole

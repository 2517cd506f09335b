"""Gather: elements along one axis, by index; the indices' axes take the place of that axis."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer, Down, Up, Way
from normswap.folding.operators.base import Operator
from normswap.folding.operators.selection import picked, put_back
from normswap.graph.evaluate import integers_of
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.dtypes import Wide
    from normswap.graph.affine import Affine
    from normswap.graph.sizes import Dim


UNKNOWN = "selects from axis {} by indices, or of a size, that is not constant"


class Gather(Operator):
    """Carries an affine; along the gathered axis only by constant indices."""

    ops = ("Gather",)

    def up(self, node: Node, index: int, affine: Affine) -> Sequence[Way]:
        value, where = node.inputs[0], node.inputs[1]
        if value is None or where is None or value.shape is None or where.shape is None:
            raise self.blocked(node, "has inputs of unknown rank", Reason.SHAPE_UNKNOWN)
        rank, count = len(value.shape), len(where.shape)
        axis = int(node.attr("axis", 0)) % rank
        alone = partial(self._put_back, node, axis, affine, value.shape, count)
        if any(affine.varies_along(i) for i in range(axis, axis + count)):
            return [alone]
        everywhere = affine.relaid(
            rank - 1 + count, lambda a: a.reshape(*a.shape[:axis], 1, *a.shape[axis + count :])
        )
        answer = Answer(goals=(Up(Use(node, 0), everywhere),), note="s, t of the selected elements")
        return [lambda: answer, alone]

    def _put_back(
        self, node: Node, axis: int, affine: Affine, shape: tuple[Dim, ...], count: int
    ) -> Answer:
        """Apply the affine to the elements that are taken, and to no others."""
        indices, size, rank = self._indices(node, axis), shape[axis], len(shape)
        if indices is None or not isinstance(size, int):
            raise self.blocked(node, UNKNOWN.format(axis), Reason.NOT_CONSTANT)
        flat = affine.relaid(rank - 1 + count, lambda a: _flat(a, axis, indices.shape))
        whole = put_back(flat, rank, axis, indices.reshape(-1).tolist(), size)
        if whole is None:
            detail = "selects an element twice, with different scales or shifts"
            raise self.blocked(node, detail, Reason.AXIS)
        return Answer(goals=(Up(Use(node, 0), whole),), note="s, t; identity for the others")

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        value, where = node.inputs[0], node.inputs[1]
        if slot != 0:
            raise self.blocked(node, f"uses {node.operand(slot).name} as its indices")
        if value is None or where is None or value.shape is None or where.shape is None:
            raise self.blocked(node, "has inputs of unknown rank", Reason.SHAPE_UNKNOWN)
        rank, count = len(value.shape), len(where.shape)
        axis = int(node.attr("axis", 0)) % rank
        if affine.varies_along(axis):
            indices = self._indices(node, axis)
            if indices is None:
                raise self.blocked(node, UNKNOWN.format(axis), Reason.NOT_CONSTANT)
            flat = picked(affine, rank, axis, indices.reshape(-1).tolist())
            sizes: tuple[int, ...] = indices.shape
        else:
            flat, sizes = affine, (1,) * count

        def unfold(array: Wide) -> Wide:
            inner = sizes if array.shape[axis] != 1 else (1,) * count
            return array.reshape(array.shape[:axis] + inner + array.shape[axis + 1 :])

        part = flat.relaid(rank, unfold)
        return Answer(goals=(Down(node.out, part),), note="s, t of the selected elements")

    @staticmethod
    def _indices(node: Node, axis: int) -> np.ndarray | None:
        """Return constant indices, none of them negative."""
        value, where = node.inputs[0], node.inputs[1]
        found = integers_of(where)
        size = None if value is None or value.shape is None else value.shape[axis]
        if found is None or where is None or where.shape is None or not isinstance(size, int):
            return None
        indices = np.asarray(found, dtype=np.int64)
        if ((indices < -size) | (indices >= size)).any():
            return None
        dims = [dim for dim in where.shape if isinstance(dim, int)]
        return (indices % size).reshape(dims)


def _flat(array: Wide, axis: int, shape: tuple[int, ...]) -> Wide:
    """Write out the axes of the indices as one."""
    before, after = array.shape[:axis], array.shape[axis + len(shape) :]
    return np.broadcast_to(array, (*before, *shape, *after)).reshape(*before, -1, *after)

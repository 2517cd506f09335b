"""Gather: elements along one axis, by index; the indices' axes take the place of that axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators.base import Answers, Operator
from normswap.folding.operators.selection import picked, put_back
from normswap.graph.evaluate import integers_of
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.dtypes import Wide
    from normswap.graph.affine import Affine


class Gather(Operator):
    """Carries an affine; along the gathered axis only by constant indices."""

    ops = ("Gather",)

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        value, where = node.inputs[0], node.inputs[1]
        if value is None or where is None or value.shape is None or where.shape is None:
            yield self.block(node, "has operands of unknown rank", Reason.SHAPE_UNKNOWN)
            return
        rank, count = len(value.shape), len(where.shape)
        axis = int(node.attr("axis", 0)) % rank
        gathered = range(axis, axis + count)
        indices, size = self._indices(node, axis), value.shape[axis]
        if not any(affine.varies_along(i) for i in gathered):
            everywhere = affine.relaid(
                rank - 1 + count, lambda a: a.reshape(*a.shape[:axis], 1, *a.shape[axis + count :])
            )
            yield Answer(goals=(Up(Use(node, 0), everywhere),), note="s, t of the elements taken")
        if indices is None or not isinstance(size, int):
            yield self.block(node, f"takes from axis {axis} at run time", Reason.NOT_CONSTANT)
            return
        flat = affine.relaid(rank - 1 + count, lambda a: _flat(a, axis, indices.shape))
        whole = put_back(flat, rank, axis, indices.reshape(-1).tolist(), size)
        if whole is None:
            detail = "takes an element twice, to scale it in different ways"
            yield self.block(node, detail, Reason.AXIS)
            return
        yield Answer(goals=(Up(Use(node, 0), whole),), note="s, t; identity for the others")

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        value, where = node.inputs[0], node.inputs[1]
        if slot != 0:
            yield self.block(node, "takes its indices from the tensor")
            return
        if value is None or where is None or value.shape is None or where.shape is None:
            yield self.block(node, "has operands of unknown rank", Reason.SHAPE_UNKNOWN)
            return
        rank, count = len(value.shape), len(where.shape)
        axis = int(node.attr("axis", 0)) % rank
        if affine.varies_along(axis):
            indices = self._indices(node, axis)
            if indices is None:
                yield self.block(node, f"takes from axis {axis} at run time", Reason.NOT_CONSTANT)
                return
            flat = picked(affine, rank, axis, indices.reshape(-1).tolist())
            sizes: tuple[int, ...] = indices.shape
        else:
            flat, sizes = affine, (1,) * count

        def unfold(array: Wide) -> Wide:
            inner = sizes if array.shape[axis] != 1 else (1,) * count
            return array.reshape(array.shape[:axis] + inner + array.shape[axis + 1 :])

        part = flat.relaid(rank, unfold)
        yield Answer(goals=(Down(node.out, part),), note="s, t of the elements taken")

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

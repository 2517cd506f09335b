"""Split: consecutive parts along an axis. The other parts take the identity."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from normswap.folding.answers import Answer, Down, Goal, Up
from normswap.folding.operators.base import ALL, Answers, Operator
from normswap.folding.operators.selection import picked, put_back
from normswap.graph.evaluate import integers_of
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.graph.affine import Affine


class Split(Operator):
    """Carries an affine of a part up beside the identity, one of the whole down in parts."""

    ops = ("Split",)
    ways_up = right_up = right_down = ALL

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        value = node.inputs[0]
        others = [v for i, v in enumerate(node.outputs) if v is not None and i != index]
        free = not any(other.is_read for other in others)
        rank = None if value is None else value.rank
        axis = None if rank is None else int(node.attr("axis", 0)) % rank
        if rank is None or axis is None:
            yield self.block(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
            return
        if free and not affine.varies_along(axis):
            yield Answer(goals=(Up(Use(node, 0), affine),), note="nobody reads the other parts")
        ranges = self._ranges(node, axis)
        if ranges is None:
            yield self.block(node, "has parts of unknown size", Reason.SHAPE_UNKNOWN)
            return
        whole = put_back(affine, rank, axis, ranges[index], ranges[-1].stop)
        if whole is not None:
            note = "s, t; identity for the other parts"
            yield Answer(goals=(Up(Use(node, 0), whole),), note=note)

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        value = node.inputs[0]
        if slot != 0:
            yield self.block(node, "takes its sizes from the tensor")
            return
        if value is None or value.rank is None:
            yield self.block(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
            return
        axis = int(node.attr("axis", 0)) % value.rank
        ranges = self._ranges(node, axis) if affine.varies_along(axis) else None
        if ranges is None and affine.varies_along(axis):
            yield self.block(node, "has parts of unknown size", Reason.SHAPE_UNKNOWN)
            return
        goals: list[Goal] = []
        for index, part in enumerate(node.outputs):
            if part is not None and part.is_read:
                own = affine if ranges is None else picked(affine, value.rank, axis, ranges[index])
                goals.append(Down(part, own))
        yield Answer(goals=tuple(goals), note="s, t in parts")

    @staticmethod
    def _ranges(node: Node, axis: int) -> list[range] | None:
        """Return where each part lies along the axis."""
        sizes = node.attr("split", None) if node.opset < 13 else integers_of(node.input(1))
        if sizes is None:
            if node.opset >= 13 and node.input(1) is not None:
                return None
            value, count = node.inputs[0], len(node.outputs)
            total = None if value is None or value.shape is None else value.shape[axis]
            if not isinstance(total, int):
                return None
            size = -(-total // count)
            sizes = [min(size, total - size * i) for i in range(count)]  # the last may be smaller
        ends = list(itertools.accumulate(int(size) for size in sizes))
        return [range(lo, hi) for lo, hi in zip([0, *ends[:-1]], ends, strict=True)]

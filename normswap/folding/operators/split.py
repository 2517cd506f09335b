"""Split: consecutive parts along an axis. The other parts take the identity."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

from normswap.folding.answers import Answer, Down, Goal, Up, Way
from normswap.folding.operators.base import ALL, Operator
from normswap.folding.operators.selection import picked, put_back
from normswap.graph.evaluate import integers_of
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.graph.affine import Affine


class Split(Operator):
    """Carries an affine of a part up beside the identity, one of the whole down in parts."""

    ops = ("Split",)
    ways_up = right_up = right_down = ALL

    def up(self, node: Node, index: int, affine: Affine) -> Sequence[Way]:
        value = node.inputs[0]
        others = [v for i, v in enumerate(node.outputs) if v is not None and i != index]
        free = not any(other.is_used for other in others)
        rank = None if value is None else value.rank
        axis = None if rank is None else int(node.attr("axis", 0)) % rank
        if rank is None or axis is None:
            raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        beside = partial(self._beside_identity, node, index, affine, axis, rank)
        if not free or affine.varies_along(axis):
            return [beside]
        whole = Answer(goals=(Up(Use(node, 0), affine),), note="nothing reads the other parts")
        return [lambda: whole, beside]

    def _beside_identity(
        self, node: Node, index: int, affine: Affine, axis: int, rank: int
    ) -> Answer:
        """Apply the affine to one part, and leave the others as they are."""
        ranges = self._ranges(node, axis)
        if ranges is None:
            raise self.blocked(node, "has parts of unknown size", Reason.SHAPE_UNKNOWN)
        whole = put_back(affine, rank, axis, ranges[index], ranges[-1].stop)
        if whole is None:
            raise AssertionError("the parts of a tensor don't overlap")
        return Answer(goals=(Up(Use(node, 0), whole),), note="s, t; identity for the other parts")

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        value = node.inputs[0]
        if slot != 0:
            raise self.blocked(node, f"uses {node.operand(slot).name} as its sizes")
        if value is None or value.rank is None:
            raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        axis = int(node.attr("axis", 0)) % value.rank
        ranges = self._ranges(node, axis) if affine.varies_along(axis) else None
        if ranges is None and affine.varies_along(axis):
            raise self.blocked(node, "has parts of unknown size", Reason.SHAPE_UNKNOWN)
        goals: list[Goal] = []
        for index, part in enumerate(node.outputs):
            if part is not None and part.is_used:
                own = affine if ranges is None else picked(affine, value.rank, axis, ranges[index])
                goals.append(Down(part, own))
        return Answer(goals=tuple(goals), note="s, t in parts")

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

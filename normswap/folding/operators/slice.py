"""Slice: a range of elements along some axes.

Up, along an axis where the affine does not vary, it may hold for the elements that are cut off too;
where they are read elsewhere they take the identity instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.answers import Answer, Down, Up, Way
from normswap.folding.operators.base import Operator
from normswap.folding.operators.selection import picked, put_back
from normswap.graph.evaluate import integers_of
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.graph.affine import Affine


UNKNOWN = "cuts axis {}, which is scaled, by a range or of a size that is not known"


class Slice(Operator):
    """Carries an affine to the elements that are cut out."""

    ops = ("Slice",)

    def up(self, node: Node, index: int, affine: Affine) -> Sequence[Way]:
        ranges = self._ranges(node)
        value = node.inputs[0]
        if value is None or value.shape is None or ranges is None:
            raise self.blocked(node, "cuts along axes that are not known", Reason.SHAPE_UNKNOWN)
        sizes, rank = value.shape, len(value.shape)
        everywhere: Affine = affine
        for axis, cut in ranges.items():
            if not affine.varies_along(axis):
                continue
            size = sizes[axis]
            part = (
                put_back(everywhere, rank, axis, range(size)[cut], size)
                if isinstance(size, int) and cut is not None
                else None
            )
            if part is None:
                raise self.blocked(node, UNKNOWN.format(axis), Reason.AXIS)
            everywhere = part
        answer = Answer(goals=(Up(Use(node, 0), everywhere),), note="s, t of the selected elements")

        def alone() -> Answer:
            part = everywhere
            for axis, cut in ranges.items():
                size = sizes[axis]
                if not affine.varies_along(axis) and isinstance(size, int) and cut is not None:
                    part = put_back(part, rank, axis, range(size)[cut], size) or part
            return Answer(goals=(Up(Use(node, 0), part),), note="s, t; identity for the others")

        return [lambda: answer, alone]

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        ranges = self._ranges(node)
        value = node.inputs[0]
        if slot != 0:
            raise self.blocked(
                node, f"uses {node.operand(slot).name} as its starts, ends, axes or steps"
            )
        if value is None or value.shape is None or ranges is None:
            raise self.blocked(node, "cuts along axes that are not known", Reason.SHAPE_UNKNOWN)
        for axis, cut in ranges.items():
            if not affine.varies_along(axis):
                continue
            size = value.shape[axis]
            if not isinstance(size, int) or cut is None:
                raise self.blocked(node, UNKNOWN.format(axis), Reason.SHAPE_UNKNOWN)
            affine = picked(affine, len(value.shape), axis, range(size)[cut])
        return Answer(goals=(Down(node.out, affine),), note="s, t of the selected elements")

    @staticmethod
    def _ranges(node: Node) -> dict[int, slice | None] | None:
        """Return what is cut along each axis, None for what is not known."""
        value = node.inputs[0]
        if value is None or value.rank is None:
            return None
        if node.opset < 10:
            starts, ends = node.attr("starts", []), node.attr("ends", [])
            axes, steps = node.attr("axes", None), None
        else:
            starts, ends = integers_of(node.input(1)), integers_of(node.input(2))
            axes, steps = integers_of(node.input(3)), integers_of(node.input(4))
            if (node.input(3) and axes is None) or (node.input(4) and steps is None):
                return None
        if axes is None:
            bounds = node.input(1)
            count = len(starts) if starts is not None else (bounds.shape or (None,))[0]  # type: ignore[union-attr]
            if not isinstance(count, int):
                return None
            axes = list(range(count))
        axes = [int(axis) % value.rank for axis in axes]
        if starts is None or ends is None:
            return dict.fromkeys(axes)
        steps = steps or [1] * len(axes)
        return {
            axis: slice(*_limits(int(start), int(end), int(step)))
            for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
        }


def _limits(start: int, end: int, step: int) -> tuple[int, int | None, int]:
    """Return the arguments of Python's slice; an end before the beginning has no number there."""
    lowest = -(1 << 31)
    return start, None if step < 0 and end <= lowest else end, step

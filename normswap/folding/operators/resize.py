"""Resize and Upsample: each element is a mean of some of the input's, with weights that sum to 1.

Nearest takes one element, linear and cubic interpolate; beyond the border the last element counts
on. So scale and shift pass, unless they vary along an axis that is resampled. Not so where elements
beyond the border are left out (``exclude_outside``: only a scale passes, since the weights are then
divided by their sum) or replaced by a constant (``tf_crop_and_resize``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators import conditions
from normswap.folding.operators.base import Answers, Operator
from normswap.graph.evaluate import constant_source, integers_of
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Block, Reason

if TYPE_CHECKING:
    from normswap.graph.affine import Affine


class Resize(Operator):
    """Carries an affine that does not vary along a resampled axis."""

    ops = ("Resize", "Upsample")

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        yield self._blocked(node, affine) or Answer(goals=(Up(Use(node, 0), affine),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        if slot != 0:
            yield self.block(node, "takes its scales from the tensor")
            return
        yield self._blocked(node, affine) or Answer(goals=(Down(node.out, affine),))

    def _blocked(self, node: Node, affine: Affine) -> Block | None:
        if node.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
            return self.block(node, "puts a constant in beyond the border")
        if node.attr("exclude_outside", 0) or node.attr("antialias", 0):
            why = "leaves out what is beyond the border"
            blocked = conditions.shift(node, affine, why)
            if blocked is not None:
                return blocked
        value = node.inputs[0]
        if value is None or value.rank is None:
            return self.block(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        same = [axis for axis in range(value.rank) if self._stays(node, axis, value.rank)]
        return conditions.beyond(node, affine, *same)

    @staticmethod
    def _stays(node: Node, axis: int, rank: int) -> bool:
        """Whether an axis is not resampled."""
        axes = [int(a) % rank for a in node.attr("axes", range(rank))]
        if axis not in axes:
            return True
        scales = _scales(node)
        if scales is not None:
            return len(scales) == len(axes) and scales[axes.index(axis)] == 1
        sizes = integers_of(node.input(3)) if node.opset >= 11 else None
        value = node.inputs[0]
        size = None if value is None or value.shape is None else value.shape[axis]
        if sizes and node.attr("keep_aspect_ratio_policy", "stretch") == "stretch":
            return isinstance(size, int) and sizes[axes.index(axis)] == size
        return False


def _scales(node: Node) -> list[float] | None:
    """Return the factors by which axes grow, None where they are not known (or sizes are given)."""
    if node.opset < 9:
        scales = node.attr("scales", None)
        return None if scales is None else [float(scale) for scale in scales]
    operand = node.input(1 if node.op == "Upsample" or node.opset < 11 else 2)
    source = None if operand is None else constant_source(operand)
    if source is None or isinstance(source, Block):
        return None
    return [float(scale) for scale in source.load().reshape(-1)] or None

"""Resize and Upsample: each element is a mean of some of the input's, with weights that sum to 1.

Nearest takes one element, linear and cubic interpolate; beyond the border the last element counts
on. So scale and shift pass, unless they vary along an axis that is resampled. Not so where elements
beyond the border are left out (``exclude_outside``: only a scale passes, since the weights are then
divided by their sum) or replaced by a constant (``tf_crop_and_resize``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.operators import conditions
from normswap.folding.operators.carrier import Carrier
from normswap.graph.evaluate import constant_source, integers_of
from normswap.graph.reasons import Reason, unless_blocked

if TYPE_CHECKING:
    from normswap.graph.affine import Affine
    from normswap.graph.network import Node


class Resize(Carrier):
    """Carries an affine that does not vary along a resampled axis."""

    ops = ("Resize", "Upsample")
    takes = "roi, scales or sizes"

    def require(self, node: Node, affine: Affine) -> None:
        if node.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
            raise self.blocked(node, "fills with a constant outside the image (tf_crop_and_resize)")
        if node.attr("exclude_outside", 0) or node.attr("antialias", 0):
            why = "leaves out what is outside the image (exclude_outside or antialias)"
            conditions.require_no_shift(node, affine, why)
        value = node.inputs[0]
        if value is None or value.rank is None:
            raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        same = [axis for axis in range(value.rank) if self._stays(node, axis, value.rank)]
        conditions.require_only_along(node, affine, *same)

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
    source = None if operand is None else unless_blocked(constant_source, operand)
    if source is None:
        return None
    return [float(scale) for scale in source.load().reshape(-1)] or None

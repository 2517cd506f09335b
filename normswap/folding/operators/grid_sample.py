"""GridSample: each element is a mean of some pixels, with weights that sum to 1.

Nearest takes one pixel, bilinear and bicubic interpolate; where a point is beyond the border, its
pixels are those at the border or their reflections. So scale and shift pass, unless they vary along
an axis of space, in which the grid goes anywhere. With zeros beyond the border only a scale does.

Source: ONNX operator GridSample, opsets 16, 20 (volumes) and 22.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.operators import conditions
from normswap.folding.operators.carrier import Carrier

if TYPE_CHECKING:
    from normswap.graph.affine import Affine
    from normswap.graph.network import Node


class GridSample(Carrier):
    """Carries an affine of samples and channels."""

    ops = ("GridSample",)
    takes = "grid"

    def require(self, node: Node, affine: Affine) -> None:
        if node.attr("padding_mode", "zeros") not in ("border", "reflection"):
            conditions.require_no_shift(node, affine, "fills with zeros outside the image")
        conditions.require_only_along(node, affine, 0, 1)

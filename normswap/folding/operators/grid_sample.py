"""GridSample: each element is a mean of some pixels, with weights that sum to 1.

Nearest takes one pixel, bilinear and bicubic interpolate; where a point is beyond the border, its
pixels are those at the border or their reflections. So scale and shift pass, unless they vary along
an axis of space, in which the grid goes anywhere. With zeros beyond the border only a scale does.

Source: ONNX operator GridSample, opsets 16, 20 (volumes) and 22.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators import conditions
from normswap.folding.operators.base import Operator
from normswap.graph.network import Node, Use

if TYPE_CHECKING:
    from normswap.graph.affine import Affine


class GridSample(Operator):
    """Carries an affine of samples and channels."""

    ops = ("GridSample",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        del index
        self._require(node, affine)
        return Answer(goals=(Up(Use(node, 0), affine),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0:
            raise self.blocked(node, f"uses {node.operand(slot).name} as its grid")
        self._require(node, affine)
        return Answer(goals=(Down(node.out, affine),))

    @staticmethod
    def _require(node: Node, affine: Affine) -> None:
        if node.attr("padding_mode", "zeros") not in ("border", "reflection"):
            conditions.require_no_shift(node, affine, "fills with zeros outside the image")
        conditions.require_only_along(node, affine, 0, 1)

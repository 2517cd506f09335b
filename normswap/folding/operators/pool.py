"""Pooling: a window of each channel becomes one element.

max(s*x + t) = s*max(x) + t where s >= 0; the padding is -inf and is never the maximum
mean(s*x + t) = s*mean(x) + t where no zeros of the padding are counted; without a shift always
a norm of s*x is |s| times that of x
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.operators import conditions
from normswap.folding.operators.carrier import Carrier
from normswap.folding.operators.windows import is_padded
from normswap.graph.affine import Affine
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.folding.answers import Answer
    from normswap.graph.network import Node


class Pool(Carrier):
    """What poolings have in common: samples and channels stay apart."""

    def require(self, node: Node, affine: Affine) -> None:
        conditions.require_only_along(node, affine, 0, 1)


class MaxPool(Pool):
    """Carries everything where no scale is negative and nobody asks where the maximum is.

    A scale of 0, or rounding, may move it.
    """

    ops = ("MaxPool", "GlobalMaxPool")

    def require(self, node: Node, affine: Affine) -> None:
        super().require(node, affine)
        conditions.require_no_negative_scale(node, affine)


class AveragePool(Pool):
    """Carries a scale, and a shift where the padding does not count."""

    ops = ("AveragePool", "GlobalAveragePool")

    def require(self, node: Node, affine: Affine) -> None:
        super().require(node, affine)
        if node.op == "GlobalAveragePool" or not node.attr("count_include_pad", 0):
            return
        # How the last, incomplete window of ceil_mode counts has changed between versions.
        if node.attr("ceil_mode", 0) or is_padded(node, node.attr("kernel_shape", [])):
            why = "averages over the zeros of its padding"
            conditions.require_no_shift(node, affine, why, Reason.ZERO_PADDING)


class LpPool(Pool):
    """Carries a scale; that of the norm is its magnitude."""

    ops = ("LpPool", "GlobalLpPool")

    def require(self, node: Node, affine: Affine) -> None:
        super().require(node, affine)
        conditions.require_no_negative_scale(node, affine)
        why = "is a norm"
        conditions.require_no_shift(node, affine, why, Reason.NONLINEAR)

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        magnitude = Affine(np.abs(affine.scale), affine.shift)
        return super().down(node, slot, magnitude)

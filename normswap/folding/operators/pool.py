"""Pooling: a window of each channel becomes one element.

max(s*x + t) = s*max(x) + t where s >= 0; the padding is -inf and is never the maximum
mean(s*x + t) = s*mean(x) + t where no zeros of the padding are counted; without a shift always
a norm of s*x is |s| times that of x
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators import conditions
from normswap.folding.operators.base import Answers, Operator
from normswap.folding.operators.windows import is_padded
from normswap.graph.affine import Affine
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Block, Reason


class Pool(Operator):
    """What poolings have in common: samples and channels stay apart."""

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        blocked = conditions.beyond(node, affine, 0, 1) or self.blocked(node, affine)
        yield blocked or Answer(goals=(Up(Use(node, 0), affine),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        del slot
        blocked = conditions.beyond(node, affine, 0, 1) or self.blocked(node, affine)
        yield blocked or Answer(goals=(Down(node.out, affine),))

    @abstractmethod
    def blocked(self, node: Node, affine: Affine) -> Block | None:
        """Say what of an affine of the channels can't pass, if anything."""


class MaxPool(Pool):
    """Carries everything where no scale is negative and nobody asks where the maximum is.

    A scale of 0, or rounding, may move it.
    """

    ops = ("MaxPool", "GlobalMaxPool")

    def blocked(self, node: Node, affine: Affine) -> Block | None:
        return conditions.negative_scale(node, affine)


class AveragePool(Pool):
    """Carries a scale, and a shift where the padding does not count."""

    ops = ("AveragePool", "GlobalAveragePool")

    def blocked(self, node: Node, affine: Affine) -> Block | None:
        if node.op == "GlobalAveragePool" or not node.attr("count_include_pad", 0):
            return None
        # How the last, incomplete window of ceil_mode counts has changed between versions.
        if not node.attr("ceil_mode", 0) and not is_padded(node, _kernel(node)):
            return None
        why = "counts the zeros of its padding"
        return conditions.shift(node, affine, why, Reason.ZERO_PADDING)


class LpPool(Pool):
    """Carries a scale; that of the norm is its magnitude."""

    ops = ("LpPool", "GlobalLpPool")

    def blocked(self, node: Node, affine: Affine) -> Block | None:
        why = "is a norm, which a shift can't pass"
        return conditions.negative_scale(node, affine) or conditions.shift(
            node, affine, why, Reason.NONLINEAR
        )

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        magnitude = Affine(np.abs(affine.scale), affine.shift)
        yield from super().down(node, slot, magnitude)


def _kernel(node: Node) -> list[int]:
    return [int(size) for size in node.attr("kernel_shape", [])]

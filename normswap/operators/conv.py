"""Conv: ``Y[n, m] = sum_c W[m, c] * X[n, group(m) + c] + b[m]``, W of shape (M, C/group, *kernel).

Up: ``s * Y + t`` has the weight ``s[m] * W[m]`` and the bias ``s*b + t``; padding, stride and
dilation don't matter, since what is added to a sum of products is scaled with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.affine import Affine, align
from normswap.answers import Answer, Block
from normswap.edits import Edit, Replace
from normswap.evaluate import constant_of
from normswap.expressions import Scaled
from normswap.operators.base import Answers, Operator
from normswap.operators.bias import scaled_bias
from normswap.reasons import Reason

if TYPE_CHECKING:
    from normswap.graph import Node


class Conv(Operator):
    """Absorbs an affine of its output channels."""

    ops = ("Conv",)

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        if not affine.varies_only_along(1):
            yield self.block(node, "can scale its channels only", Reason.AXIS)
            return
        weight = constant_of(node.input(1))
        if isinstance(weight, Block):
            yield weight
            return
        s, t = affine.vectors(1, weight.shape[0])
        edits: list[Edit] = []
        if affine.has_scale:
            scaled = Scaled(weight, align(s, len(weight.shape)))
            edits.append(Replace(node.key, 1, scaled, node.inputs[1].name))  # type: ignore[union-attr]
        bias = scaled_bias(node, 2, s, t, weight.data_type)
        if isinstance(bias, Block):
            yield bias
            return
        yield Answer((*edits, *bias), note="W[m] *= s[m], b = s*b + t")

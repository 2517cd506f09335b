"""ConvTranspose: W of shape (C, M/group, *kernel), the output channel on the second axis.

Output channel ``m`` is column ``m % (M/group)`` of the rows of its group, ``m // (M/group)``; so
the factor of row ``c`` and column ``j`` is ``s[(c // (C/group)) * (M/group) + j]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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


class ConvTranspose(Operator):
    """Absorbs an affine of its output channels."""

    ops = ("ConvTranspose",)

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        if not affine.varies_only_along(1):
            yield self.block(node, "can scale its channels only", Reason.AXIS)
            return
        weight = constant_of(node.input(1))
        if isinstance(weight, Block):
            yield weight
            return
        group = node.attr("group", 1)
        rows, columns = weight.shape[:2]
        s, t = affine.vectors(1, columns * group)
        edits: list[Edit] = []
        if affine.has_scale:
            factor = np.repeat(s.reshape(group, columns), rows // group, axis=0)
            scaled = Scaled(weight, align(factor, len(weight.shape)))
            edits.append(Replace(node.key, 1, scaled, node.inputs[1].name))  # type: ignore[union-attr]
        bias = scaled_bias(node, 2, s, t, weight.data_type)
        if isinstance(bias, Block):
            yield bias
            return
        yield Answer((*edits, *bias), note="W[:, m] *= s[m], b = s*b + t")

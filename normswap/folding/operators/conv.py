"""Conv: ``Y[n, m] = sum_c W[m, c] * X[n, group(m) + c] + b[m]``, W of shape (M, C/group, *kernel).

Up: ``s * Y + t`` has the weight ``s[m] * W[m]`` and the bias ``s*b + t``; padding, stride and
dilation don't matter, since what is added to a sum of products is scaled with it.

Down: of ``s * X + t`` the weight is ``W[m, c] * s[group(m) + c]`` and the bias ``b + sum(W * t)``:
but only if no window reaches into the padding, where there is no t.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer
from normswap.folding.operators import conditions
from normswap.folding.operators.base import Operator
from normswap.folding.operators.bias import scaled_bias, summed_bias
from normswap.folding.operators.weight import scaled_weight, weight_of
from normswap.folding.operators.windows import is_padded
from normswap.graph.affine import Affine, align
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.dtypes import Wide
    from normswap.graph.network import Node


class Conv(Operator):
    """Absorbs an affine of its output channels, or of its input channels."""

    ops = ("Conv",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        conditions.require_only_along(node, affine, 1)
        weight = weight_of(node, 1)
        s, t = affine.vectors(weight.shape[0])
        scaled = scaled_weight(node, 1, weight, align(s, len(weight.shape)))
        bias = scaled_bias(node, s, t, weight.data_type)
        return Answer((*scaled, *bias), note="W[m] *= s[m], b = s*b + t")

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0:
            detail = f"uses {node.operand(slot).name} as its weight"
            raise self.blocked(node, detail, Reason.NOT_CONSTANT)
        conditions.require_only_along(node, affine, 1)
        weight = weight_of(node, 1)
        if is_padded(node, weight.shape[2:]):
            conditions.require_no_shift(node, affine, "pads with zeros", Reason.ZERO_PADDING)
        group = int(node.attr("group", 1))
        rank, channels = len(weight.shape), weight.shape[1] * group
        s, t = (self._by_weight(v, group, weight.shape) for v in affine.vectors(channels))
        edits = list(scaled_weight(node, 1, weight, s))
        if affine.has_shift:
            axes = tuple(range(1, rank))
            edits.append(summed_bias(node, weight, t, axes, weight.shape[0]))
        return Answer(tuple(edits), note="W[:, c] *= s[c], b += sum(W * t)")

    @staticmethod
    def _by_weight(vector: Wide, group: int, shape: tuple[int, ...]) -> Wide:
        """Lay a value for each input channel out over the weight, in which groups are stacked."""
        rows = vector.reshape(group, shape[1])
        if group > 1:
            rows = np.repeat(rows, shape[0] // group, axis=0)
        return align(rows, len(shape))

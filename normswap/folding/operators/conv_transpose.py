"""ConvTranspose: W of shape (C, M/group, *kernel), the output channel on the second axis.

Output channel ``m`` is column ``m % (M/group)`` of the rows of its group, ``m // (M/group)``; so
the factor of row ``c`` and column ``j`` is ``s[(c // (C/group)) * (M/group) + j]``.

Down: row ``c`` times ``s[c]``, wherever its taps fall. A shift adds to each output element the sum
of ``W * t`` over the taps that reach it. Those are the same everywhere if the kernel is 1, and one
each if the kernel is as large as the stride and nothing is cut off: then the sums repeat from block
to block, and are added by an Add of their own if they are not all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer
from normswap.folding.edits import Edit, Insert
from normswap.folding.operators import conditions
from normswap.folding.operators.base import Operator
from normswap.folding.operators.bias import scaled_bias, summed_bias
from normswap.folding.operators.layout import LARGEST_MOVED
from normswap.folding.operators.weight import scaled_weight, weight_of
from normswap.graph.affine import Affine, align
from normswap.graph.expressions import Expression, Filled
from normswap.graph.formulas import Summed
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.dtypes import Wide
    from normswap.graph.network import Node


class ConvTranspose(Operator):
    """Absorbs an affine of its output channels, or of its input channels."""

    ops = ("ConvTranspose",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        conditions.require_only_along(node, affine, 1)
        weight = weight_of(node, 1)
        group = int(node.attr("group", 1))
        rows, columns = weight.shape[:2]
        s, t = affine.vectors(columns * group)
        factor = s.reshape(group, columns)  # one row of factors for each group
        if group > 1:
            factor = np.repeat(factor, rows // group, axis=0)
        scaled = scaled_weight(node, 1, weight, align(factor, len(weight.shape)))
        bias = scaled_bias(node, s, t, weight.data_type)
        return Answer((*scaled, *bias), note="W[:, m] *= s[m], b = s*b + t")

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0:
            detail = f"uses {node.operand(slot).name} as its weight"
            raise self.blocked(node, detail, Reason.NOT_CONSTANT)
        conditions.require_only_along(node, affine, 1)
        weight = weight_of(node, 1)
        s, t = affine.vectors(weight.shape[0])
        edits = list(scaled_weight(node, 1, weight, align(s, len(weight.shape))))
        if affine.has_shift:
            edits.append(self._shifted(node, weight, t))
        return Answer(tuple(edits), note="W[c] *= s[c], b += sum(W * t)")

    def _shifted(self, node: Node, weight: Expression, t: Wide) -> Edit:
        """Return the edit that adds what the shift becomes."""
        group = int(node.attr("group", 1))
        rows, columns, *kernel = weight.shape
        channels = group * columns
        view = (group, rows // group, columns, *kernel)
        factor = align(t.reshape(group, -1), len(view))
        if not self._tiles(node, kernel):
            detail = "sums other parts of its kernel at the border, so a shift would differ there"
            raise self.blocked(node, detail, Reason.ZERO_PADDING)
        if all(size == 1 for size in kernel):
            axes = (1, *range(3, len(view)))
            return summed_bias(node, weight, factor, axes, channels, view)
        taps = Summed(None, weight, factor, (1,), (channels, *kernel), view=view).wide()
        value = node.inputs[0]
        space = None if value is None or value.shape is None else value.shape[2:]
        blocks = [size for size in space or [None] if isinstance(size, int)]
        if len(blocks) != len(kernel) or taps.size * np.prod(blocks) > LARGEST_MOVED:
            detail = (
                "turns a shift into one per output position, of which there are too many to store"
            )
            raise self.blocked(node, detail, Reason.SHIFT)
        shift = Filled(np.tile(taps, (1, *blocks)), weight.data_type)
        return Insert(node.key, 0, "Add", shift, f"{node.title}_shift")

    @staticmethod
    def _tiles(node: Node, kernel: list[int]) -> bool:
        """Whether the kernel covers the output without overlap, holes or cut-off borders."""
        ones = [1] * len(kernel)
        padded = (node.attr("auto_pad", "NOTSET") or "NOTSET") not in ("NOTSET", "VALID")
        cut = [*node.attr("pads", []), *node.attr("output_padding", [])]
        if padded or any(cut) or node.attr("output_shape", None):
            return False
        strides, dilations = node.attr("strides", ones), node.attr("dilations", ones)
        return all(
            size == stride and (dilation == 1 or size == 1)
            for size, stride, dilation in zip(kernel, strides, dilations, strict=True)
        )

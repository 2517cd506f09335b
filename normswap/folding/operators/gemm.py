"""Gemm: ``Y = alpha * A' @ B' + beta * C``, Y of shape (M, N), C broadcast to it.

Up: columns of ``B'`` times s, ``C' = beta*s*C + t`` and beta = 1. An affine of the rows goes into a
constant ``A'`` in the same way.

Down, through A: an affine of the axis that is summed scales the rows of a constant ``B'``, and
``C' = beta*C + alpha * t @ B'``. Through B it scales the columns of a constant ``A'`` and adds
``alpha * A' @ t``, a column. Through C a shift passes, times beta.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer, Down
from normswap.folding.edits import Edit, Replace, SetAttribute
from normswap.folding.operators import conditions
from normswap.folding.operators.base import Operator
from normswap.folding.operators.layout import from_operand, strip_leading
from normswap.folding.operators.weight import scaled_weight, weight_of
from normswap.folding.quantized import rounded
from normswap.graph.affine import Affine
from normswap.graph.expressions import Expression, Filled
from normswap.graph.formulas import Scaled, Summed
from normswap.graph.quantized import Dequantized, Transposed
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.dtypes import Wide
    from normswap.graph.network import Node


class Gemm(Operator):
    """Absorbs an affine of columns, rows, or of the axis that is summed, into constants."""

    ops = ("Gemm",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        if affine.varies_only_along(1):
            slot, transposed = 1, bool(node.attr("transB", 0))
        elif affine.varies_only_along(0):
            slot, transposed = 0, not node.attr("transA", 0)
        else:
            detail = "can absorb scales and shifts of rows or of columns, not of single elements"
            raise self.blocked(node, detail, Reason.AXIS)
        operand = weight_of(node, slot)
        s, t = affine.at(2)
        # (1, N) scales the columns of an untransposed B, its transpose (N, 1) the rows of B^T.
        factor = s.reshape(-1, 1) if transposed else s.reshape(1, -1)
        scaled = scaled_weight(node, slot, operand, factor)
        addend = self._addend(node, s, t, operand)
        return Answer((*scaled, *addend), note="B' *= s, C' = beta*s*C + t")

    @staticmethod
    def _addend(node: Node, s: Wide, t: Wide, operand: Expression) -> list[Edit]:
        """Return the edits that make the addend ``beta*s*C + t``."""
        beta = node.attr("beta", 1.0)
        present = node.input(2)
        edits: list[Edit] = []
        if present is None or beta == 0:  # beta = 0 ignores C, whatever it holds
            if not (t != 0).any():
                return []
            name = f"{node.title}_bias" if present is None else present.name
            constant: Expression = Filled(strip_leading(t), operand.data_type)
        else:
            addend = weight_of(node, 2)
            if not (s != 1).any() and not (t != 0).any():
                return []
            shape = addend.shape
            factor, shift = strip_leading(s * beta, len(shape)), strip_leading(t, len(shape))
            name, constant = present.name, Scaled(addend, factor, shift)
            if isinstance(addend, Dequantized | Transposed):
                if (t != 0).any():
                    raise rounded(node, 2)
                edits += scaled_weight(node, 2, addend, factor)
        if not edits:
            edits.append(Replace(node.key, 2, constant, name))
        if beta != 1:
            edits.append(SetAttribute(node.key, "beta", 1.0))
        return edits

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot == 2:
            return self._through_addend(node, affine)
        name, other = ("transB", 1) if slot == 0 else ("transA", 0)
        # Where the axis that is summed is in the operand that the affine is over, and in the other.
        summed = 1 - slot if not node.attr("transA" if slot == 0 else "transB", 0) else slot
        across = slot if not node.attr(name, 0) else 1 - slot
        conditions.require_only_along(node, affine, summed)
        operand = weight_of(node, other)
        s, t = (self._along(v, across) for v in affine.vectors(operand.shape[across]))
        edits = list(scaled_weight(node, other, operand, s))
        if affine.has_shift:
            kept = operand.shape[1 - across]
            result = (kept,) if slot == 0 else (kept, 1)
            edits += self._summed(node, operand, t, across, result)
        return Answer(tuple(edits), note="B' *= s, C' = beta*C + alpha * t @ B'")

    @staticmethod
    def _along(vector: Wide, axis: int) -> Wide:
        return vector.reshape((-1, 1) if axis == 0 else (1, -1))

    @staticmethod
    def _summed(
        node: Node, operand: Expression, t: Wide, axis: int, result: tuple[int, ...]
    ) -> list[Edit]:
        """Return the edits that make the addend ``beta*C + alpha * sum(operand * t)``."""
        alpha, beta = float(node.attr("alpha", 1.0)), float(node.attr("beta", 1.0))
        present = node.input(2)
        base: Expression | None = None
        if present is not None and beta != 0:
            addend = weight_of(node, 2)
            if isinstance(addend, Dequantized | Transposed):
                raise rounded(node, 2)
            base = addend if beta == 1 else Scaled(addend, np.asarray(beta, dtype=np.longdouble))
        name = f"{node.title}_bias" if present is None else present.name
        total = Summed(base, operand, t, (axis,), result, gain=alpha)
        edits: list[Edit] = [Replace(node.key, 2, total, name)]
        if beta != 1:
            edits.append(SetAttribute(node.key, "beta", 1.0))
        return edits

    def _through_addend(self, node: Node, affine: Affine) -> Answer:
        value = node.input(2)
        if affine.has_scale:
            raise self.blocked(
                node, "adds its input C to a product, so a scale can't pass it", Reason.SCALE
            )
        if value is None or value.rank is None:
            raise self.blocked(node, "has an input C of unknown rank", Reason.SHAPE_UNKNOWN)
        lifted = from_operand(affine, value.rank, 2)
        shift = lifted.shift * float(node.attr("beta", 1.0))
        return Answer(goals=(Down(node.out, Affine(lifted.scale, shift)),), note="beta*t")

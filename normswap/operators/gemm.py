"""Gemm: ``Y = alpha * A' @ B' + beta * C``, Y of shape (M, N), C broadcast to it.

Up: columns of ``B'`` times s, ``C' = beta*s*C + t`` and beta = 1. An affine of the rows goes into a
constant ``A'`` in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.answers import Answer, Block
from normswap.edits import Edit, Replace, SetAttribute
from normswap.evaluate import constant_of
from normswap.expressions import Expression, Filled, Scaled
from normswap.operators.base import Answers, Operator
from normswap.operators.layout import strip_leading
from normswap.reasons import Reason

if TYPE_CHECKING:
    from normswap.affine import Affine
    from normswap.dtypes import Wide
    from normswap.graph import Node


class Gemm(Operator):
    """Absorbs an affine of its columns (rows) into a constant right (left) operand."""

    ops = ("Gemm",)

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        if affine.varies_only_along(1):
            slot, transposed = 1, bool(node.attr("transB", 0))
        elif affine.varies_only_along(0):
            slot, transposed = 0, not node.attr("transA", 0)
        else:
            yield self.block(node, "can scale rows or columns, not single elements", Reason.AXIS)
            return
        operand = constant_of(node.input(slot))
        if isinstance(operand, Block):
            yield operand
            return
        s, t = affine.at(2)
        edits: list[Edit] = []
        if affine.has_scale:
            # (1, N) scales the columns of an untransposed B, its transpose (N, 1) the rows of B^T.
            factor = s.reshape(-1, 1) if transposed else s.reshape(1, -1)
            edits.append(Replace(node.key, slot, Scaled(operand, factor), node.inputs[slot].name))  # type: ignore[union-attr]
        addend = self._addend(node, s, t, operand)
        if isinstance(addend, Block):
            yield addend
            return
        yield Answer((*edits, *addend), note="B' *= s, C' = beta*s*C + t")

    @staticmethod
    def _addend(node: Node, s: Wide, t: Wide, operand: Expression) -> list[Edit] | Block:
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
            addend = constant_of(present)
            if isinstance(addend, Block):
                return addend
            if not (s != 1).any() and not (t != 0).any():
                return []
            shape = addend.shape
            factor, shift = strip_leading(s * beta, len(shape)), strip_leading(t, len(shape))
            name, constant = present.name, Scaled(addend, factor, shift)
        edits.append(Replace(node.key, 2, constant, name))
        if beta != 1:
            edits.append(SetAttribute(node.key, "beta", 1.0))
        return edits

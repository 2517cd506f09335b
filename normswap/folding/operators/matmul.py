"""MatMul: ``Y = X @ W`` scales columns by W, rows by X.

Up, with one constant operand: its own axes, batch axes included, may carry the scale; a shift
becomes an Add after it (an Add that is there already takes the shift before it comes here). Else
the operand that makes the axis carries the scale, and the shift too where the other one averages:
``P @ (s*V + t) = s * (P @ V) + t`` if the rows of P sum to one, as those of a Softmax do. Where V
takes no shift, being padded with zeros, say, that becomes an Add too.

Down: ``(s*X + t) @ W = X @ (s[:, None] * W) + t @ W``; the last term goes into the constant of an
Add that follows, or becomes an Add. Past a tensor by the same rules as up.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer, Down, Up, Way
from normswap.folding.edits import Edit, Insert
from normswap.folding.operators.averaging import sums_to_one
from normswap.folding.operators.base import Operator
from normswap.folding.operators.bias import following_bias
from normswap.folding.operators.layout import for_operand, from_operand, strip_leading
from normswap.folding.operators.weight import scaled_weight, weight_of
from normswap.graph.expressions import Expression, Filled
from normswap.graph.network import Use
from normswap.graph.reasons import Reason, unless_blocked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.dtypes import Wide
    from normswap.graph.affine import Affine
    from normswap.graph.network import Node, Value


A_WEIGHT_EACH = "would need a weight of its own for each entry of the batch axes"


class MatMul(Operator):
    """Absorbs an affine along the axes that its constant operand makes, or sums; else carries."""

    ops = ("MatMul",)

    def up(self, node: Node, index: int, affine: Affine) -> Sequence[Way]:
        rank = node.out.rank
        if rank is None:
            raise self.blocked(node, "has an output of unknown rank", Reason.SHAPE_UNKNOWN)
        constants = [(slot, unless_blocked(weight_of, node, slot)) for slot in (1, 0)]
        absorbed: list[Way] = [
            partial(self._absorbed, node, slot, found, affine, rank)
            for slot, found in constants
            if found is not None
        ]
        averaged = [slot for slot in (1, 0) if _averages(node.operand(1 - slot), slot)]
        others = [slot for slot in (1, 0) if slot not in averaged]
        carried, beside, last = (
            [partial(make, node, slot, affine, rank) for slot in slots]
            for make, slots in (
                (self._to_operand, averaged),
                (self._scale_to_operand, averaged if affine.has_shift else []),
                (self._to_operand, others),
            )
        )
        return [*carried, *absorbed, *beside, *last]  # who averages adds nothing

    def _to_operand(self, node: Node, slot: int, affine: Affine, rank: int) -> Answer:
        """Carry an affine to the operand that makes the axis along which it varies."""
        value = self._crossed(node, slot, affine, rank - (2 if slot == 1 else 1))
        goal = Up(Use(node, slot), for_operand(affine, value, rank))
        return Answer(goals=(goal,), note="P @ (s*V + t)" if affine.has_shift else "P @ (s*V)")

    def _scale_to_operand(self, node: Node, slot: int, affine: Affine, rank: int) -> Answer:
        """Carry the scale to what is averaged, and add the shift to the result."""
        if node.out.data_type is None:
            raise self.blocked(node, "has an output of unknown element type", Reason.ELEMENT_TYPE)
        shift = Filled(strip_leading(affine.at(rank)[1]), node.out.data_type)
        insert = Insert(node.key, 0, "Add", shift, f"{node.title}_shift")
        answer = self._to_operand(node, slot, affine.scale_only(), rank)
        return replace(answer, edits=(insert,), note="P @ (s*V), and + t")

    def _crossed(self, node: Node, slot: int, affine: Affine, summed: int) -> Value:
        """Return an operand, unless an affine can't pass between it and the output.

        Parameters
        ----------
        node : Node
        slot : int
        affine : Affine
            Over the output, or over the operand.
        summed : int
            Of its axes the one that the other operand makes, or that is summed.
        """
        value, other = node.operand(slot), node.operand(1 - slot)
        if value.rank is None or other.rank is None:
            raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        if min(value.rank, other.rank) < 2 or affine.varies_along(summed):
            detail = "has no constant input along the axis that is scaled"
            raise self.blocked(node, detail, Reason.NOT_CONSTANT)
        if affine.has_shift and not _averages(other, slot):
            why = "multiplies two tensors that are not constant, so a shift can't pass it"
            raise self.blocked(node, why, Reason.NOT_CONSTANT)
        return value

    def _absorbed(
        self, node: Node, slot: int, operand: Expression, affine: Affine, rank: int
    ) -> Answer:
        other = node.inputs[1 - slot]
        if len(operand.shape) < 2 or other is None or other.rank is None:
            raise self.blocked(
                node,
                "multiplies by a vector, which makes no axis that could be scaled",
                Reason.AXIS,
            )
        # The matrix axis of the output that this operand does not make: it sums over that of the
        # operand, and scaling it is up to the other one (a vector makes none).
        foreign = rank - 2 if slot == 1 else rank - 1
        s, t = affine.at(rank)
        if other.rank == 1:
            s = np.expand_dims(s, -2 if slot == 1 else -1)
        elif affine.varies_along(foreign):
            side = "right" if slot == 1 else "left"
            detail = f"can't scale that axis through its {side} input"
            raise self.blocked(node, detail, Reason.AXIS)
        edits: list[Edit] = []
        if affine.has_scale:
            factor = self._fitting(s, operand)
            if factor is None:
                raise self.blocked(node, A_WEIGHT_EACH, Reason.AXIS)
            edits += scaled_weight(node, slot, operand, factor)
        if affine.has_shift:
            shift = Filled(strip_leading(t), operand.data_type)
            edits.append(Insert(node.key, 0, "Add", shift, f"{node.title}_shift"))
        return Answer(tuple(edits), note="W *= s, and + t")

    def down(self, node: Node, slot: int, affine: Affine) -> Sequence[Way]:
        return [
            partial(self._absorbed_down, node, slot, affine),
            partial(self._to_output, node, slot, affine),
        ]

    def _to_output(self, node: Node, slot: int, affine: Affine) -> Answer:
        """Carry an affine past a tensor, along the axes that the other operand does not make."""
        own, rank = node.operand(slot).rank, node.out.rank
        if own is None or rank is None:
            raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        self._crossed(node, slot, affine, own - (1 if slot == 0 else 2))
        goal = Down(node.out, from_operand(affine, own, rank))
        return Answer(goals=(goal,), note="P @ (s*V + t) = s * (P @ V) + t")

    def _absorbed_down(self, node: Node, slot: int, affine: Affine) -> Answer:
        value, operand = node.inputs[slot], weight_of(node, 1 - slot)
        if value is None or value.rank is None:
            raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        s, t = affine.at(value.rank)
        # X[..., m, k] @ W[..., k, n], or W[..., m, k] @ X[..., k, n]: k is the axis that is summed.
        vector, summed = value.rank == 1, -1 if slot == 0 else -2
        if not vector and any(array.shape[-3 - summed] != 1 for array in (s, t)):
            raise self.blocked(node, "does not sum over the axis that is scaled", Reason.AXIS)
        flat = len(operand.shape) == 1
        axis = -1 if flat or slot == 1 else -2  # of the operand
        if flat and affine.ndim and not affine.varies_only_along(value.rank + summed):
            raise self.blocked(node, A_WEIGHT_EACH, Reason.AXIS)
        s, t = (self._turned(array, vector=vector, flat=flat, axis=axis) for array in (s, t))
        s_fits, t_fits = self._fitting(s, operand), self._fitting(t, operand)
        if s_fits is None or t_fits is None:
            raise self.blocked(node, A_WEIGHT_EACH, Reason.AXIS)
        edits: list[Edit] = []
        if affine.has_scale:
            edits += scaled_weight(node, 1 - slot, operand, s_fits)
        if affine.has_shift:
            edits.append(self._shifted(node, operand, t_fits, axis, vector=vector))
        return Answer(tuple(edits), note="W *= s, and + t @ W")

    @staticmethod
    def _turned(array: Wide, *, vector: bool, flat: bool, axis: int) -> Wide:
        """Lay an affine's array, of the tensor's axes, out along the operand's summed axis."""
        values = array.reshape(-1) if vector else array
        if flat:
            return values.reshape(-1)
        if vector:
            return values.reshape((-1, 1) if axis == -2 else (1, -1))
        return values.swapaxes(-1, -2)

    @staticmethod
    def _fitting(array: Wide, operand: Expression) -> Wide | None:
        """Drop leading axes of an array; None where the operand would have to grow to take it."""
        factor = strip_leading(array, min(2, len(operand.shape)))
        if len(factor.shape) > len(operand.shape):
            return None
        own = operand.shape[len(operand.shape) - factor.ndim :]
        fits = all(size in (1, dim) for size, dim in zip(factor.shape, own, strict=True))
        return factor if fits else None

    @staticmethod
    def _shifted(node: Node, operand: Expression, t: Wide, axis: int, *, vector: bool) -> Edit:
        """Return the edit that adds ``t @ W``, into the constant that is added anyway if one is."""
        summed = len(operand.shape) + axis
        result = list(operand.shape)
        if vector or len(result) == 1:  # a vector has no axis for what it makes
            del result[summed]
        else:
            result[summed] = 1
        return following_bias(node, operand, t, (summed,), result)


def _averages(other: Value, slot: int) -> bool:
    """Whether what is multiplied with an operand sums to one along the axis that is summed."""
    return sums_to_one(other, -1 if slot == 1 else -2)

"""Mul and Div of tensors, constants among them.

Up: a scale goes to one factor (a constant one, or the numerator). A shift can't pass a product, so
a product with a constant is taken apart: ``s*(K*x) + t`` is the affine ``(s*K, t)`` of x; or the
constant becomes ``s*K`` and an Add follows. Down: ``K*(s*x + t) = s*(K*x) + K*t``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.edits import Bypass, Edit, Insert, Replace
from normswap.folding.operators.base import Answers, Operator
from normswap.folding.operators.layout import (
    LARGEST_MOVED,
    for_operand,
    from_operand,
    output_rank,
    strip_leading,
    to_operand,
)
from normswap.graph.affine import Affine
from normswap.graph.evaluate import constant_of
from normswap.graph.expressions import Expression, Filled, Scaled
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Block, Reason
from normswap.graph.removal import removal_block

if TYPE_CHECKING:
    from normswap.dtypes import Wide


class Mul(Operator):
    """Takes a scale into a constant factor, and composes with it where a shift is to go on."""

    ops = ("Mul", "Div")

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        rank = output_rank(node, affine)
        if rank is None:
            yield self.block(node, "has an output of unknown rank", Reason.SHAPE_UNKNOWN)
            return
        constants = [
            slot
            for slot, value in enumerate(node.inputs)
            if isinstance(constant_of(value), Expression)
        ]
        if affine.has_shift:
            if not constants:
                yield self.block(node, "is a product, which a shift can't pass", Reason.SHIFT)
                return
            if constants[0] == 1 or node.op == "Mul":
                yield self._composed(node, constants[0], affine, rank)
        for slot in self._takers(node, constants):
            answer = self._scaled(node, slot, affine, rank)
            if isinstance(answer, Block) or not affine.has_shift:
                yield answer
                continue
            data_type = node.out.data_type or constant_of(node.inputs[slot]).data_type  # type: ignore[union-attr]
            shift = Filled(strip_leading(affine.at(rank)[1]), data_type)
            insert = Insert(node.key, 0, "Add", shift, f"{node.title}_shift")
            yield Answer((*answer.edits, insert), answer.goals, note="K = s*K, and + t")

    @staticmethod
    def _takers(node: Node, constants: list[int]) -> list[int]:
        """Return the operands that may take a scale, constants first."""
        slots = [0, 1] if node.op == "Mul" else [0]
        first = [slot for slot in slots if slot in constants]
        if node.op == "Div" and constants == [1]:
            return [1, 0]
        return first + [slot for slot in slots if slot not in first]

    def _scaled(self, node: Node, slot: int, affine: Affine, rank: int) -> Answer | Block:
        if node.op == "Div" and slot == 1:  # s * x/K = x / (K/s)
            if not (affine.scale != 0).all():
                return self.block(node, "divides by a constant, which has no room for a scale 0")
            inverse = Affine(1 / affine.scale, np.zeros(()))
            return to_operand(node, slot, inverse, rank)
        return to_operand(node, slot, affine.scale_only(), rank)

    def _composed(self, node: Node, slot: int, affine: Affine, rank: int) -> Answer | Block:
        """Take the node out and let its constant travel with the affine."""
        factor = movable_factor(node, slot, rank)
        use = Use(node, 1 - slot)
        kept = removal_block([use])
        if kept is not None or isinstance(factor, Block):
            return kept or factor  # type: ignore[return-value]
        value = node.inputs[use.slot]
        scale, shift = affine.at(rank)
        if value is None or value.rank != rank:
            return self.block(node, "has an operand of unknown rank", Reason.SHAPE_UNKNOWN)
        part = for_operand(Affine(scale * factor, shift), value, rank)
        if isinstance(part, Block):
            return part
        # The node goes last: until then its operand is read here.
        return Answer(
            goals=(Up(use, part),),
            then=(Bypass(node.key, use.slot),),
            note="s*K, t",
        )

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        value, other = node.inputs[slot], 1 - slot
        rank = node.out.rank
        if rank is None or value is None or value.rank is None:
            yield self.block(node, "has operands of unknown rank", Reason.SHAPE_UNKNOWN)
            return
        if node.op == "Div" and slot == 1:
            yield self.block(node, "divides by the tensor")
            return
        lifted = from_operand(affine, value.rank, rank)
        constant = constant_of(node.inputs[other])
        if isinstance(constant, Block):
            if affine.has_shift:
                yield self.block(node, "is a product, which a shift can't pass", Reason.SHIFT)
                return
            yield Answer(goals=(Down(node.out, lifted),), note="(s*x) * z = s * (x*z)")
            return
        if not affine.has_shift and (node.op == "Mul" or (affine.scale != 0).all()):
            part = lifted if node.op == "Mul" else Affine(1 / lifted.scale, np.zeros(()))
            scale = strip_leading(part.at(rank)[0], len(constant.shape))
            name = node.inputs[other].name  # type: ignore[union-attr]
            edit: Edit = Replace(node.key, other, Scaled(constant, scale), name)
            yield Answer((edit,), note="K = s*K")
            return
        factor = movable_factor(node, other, rank)
        if isinstance(factor, Block):
            yield factor
            return
        scale, shift = lifted.at(rank)
        yield Answer(
            goals=(Down(node.out, Affine(scale, shift * factor)),),
            note="K*(s*x + t) = s*(K*x) + K*t",
        )


def movable_factor(node: Node, slot: int, rank: int) -> Wide | Block:
    """Return the constant factor ``K`` (or ``1/K`` of a divisor) with all axes of the output."""
    constant = constant_of(node.inputs[slot])
    if isinstance(constant, Block):
        return constant
    if np.prod(constant.shape) > LARGEST_MOVED:
        return Operator.block(node, "has a constant too large to be moved", Reason.AXIS)
    wide = constant.wide().astype(np.longdouble)
    wide = wide.reshape((1,) * (rank - wide.ndim) + wide.shape)
    if node.op == "Div":
        if (wide == 0).any():
            return Operator.block(node, "divides by zero", Reason.NON_FINITE)
        return 1 / wide
    return wide

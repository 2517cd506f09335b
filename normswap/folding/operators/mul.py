"""Mul and Div of tensors, constants among them.

Up: a scale goes to one factor (a constant one, or the numerator). A shift can't pass a product, so
a product with a constant is taken apart: ``s*(K*x) + t`` is the affine ``(s*K, t)`` of x; or the
constant becomes ``s*K`` and an Add follows. Down: ``K*(s*x + t) = s*(K*x) + K*t``; or the constant
takes the scale in, and what goes on is the shift, ``(s*K)*x + K*t``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer, Down, Up, Way
from normswap.folding.edits import Bypass, Insert, Replace
from normswap.folding.operators.base import Operator
from normswap.folding.operators.layout import (
    LARGEST_MOVED,
    for_operand,
    from_operand,
    output_rank,
    strip_leading,
    to_operand,
)
from normswap.graph.affine import Affine, align
from normswap.graph.evaluate import constant_of, is_constant, spread_of
from normswap.graph.expressions import Filled
from normswap.graph.formulas import Scaled
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Blocked, Reason, unless_blocked
from normswap.graph.removal import removal_block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.dtypes import Wide
    from normswap.folding.answers import Answers
    from normswap.graph.expressions import Expression


class Mul(Operator):
    """Takes a scale into a constant factor, and composes with it where a shift is to go on."""

    ops = ("Mul", "Div")

    def up(self, node: Node, index: int, affine: Affine) -> Sequence[Way]:
        rank = output_rank(node, affine)
        if rank is None:
            raise self.blocked(node, "has an output of unknown rank", Reason.SHAPE_UNKNOWN)
        constants = [slot for slot, value in enumerate(node.inputs) if is_constant(value)]
        ways: list[Way] = []
        if affine.has_shift:
            spreads = [i for i, v in enumerate(node.inputs) if unless_blocked(spread_of, v)]
            if not spreads:
                raise self.blocked(
                    node,
                    "multiplies two tensors that are not constant, so a shift can't pass it",
                    Reason.SHIFT,
                )
            if spreads[0] == 1 or node.op == "Mul":
                ways.append(partial(self._composed, node, spreads[0], affine, rank))
        ways += [
            partial(self._scaled, node, slot, affine, rank)
            for slot in self._takers(node, constants)
        ]
        return ways

    @staticmethod
    def _takers(node: Node, constants: list[int]) -> list[int]:
        """Return the operands that may take a scale, constants first."""
        slots = [0, 1] if node.op == "Mul" else [0]
        first = [slot for slot in slots if slot in constants]
        if node.op == "Div" and constants == [1]:
            return [1, 0]
        return first + [slot for slot in slots if slot not in first]

    def _scaled(self, node: Node, slot: int, affine: Affine, rank: int) -> Answer:
        """Hand the scale to one operand; the shift is added."""
        scale = affine.scale_only()
        if node.op == "Div" and slot == 1:  # s * x/K = x / (K/s)
            if not (affine.scale != 0).all():
                detail = "divides by a constant, which can't absorb a scale of 0"
                raise self.blocked(node, detail)
            scale = Affine(1 / affine.scale, np.zeros(()))
        answer = to_operand(node, slot, scale, rank)
        if not affine.has_shift:
            return answer
        data_type = node.out.data_type or constant_of(node.inputs[slot]).data_type
        shift = Filled(strip_leading(affine.at(rank)[1]), data_type)
        insert = Insert(node.key, 0, "Add", shift, f"{node.title}_shift")
        return Answer((*answer.edits, insert), answer.goals, note="K = s*K, and + t")

    def _composed(self, node: Node, slot: int, affine: Affine, rank: int) -> Answer:
        """Take the node out and let its constant travel with the affine."""
        use = Use(node, 1 - slot)
        kept = removal_block([use])
        if kept is not None:
            raise Blocked.by(kept)
        factor = movable_factor(node, slot, rank)
        value = node.inputs[use.slot]
        scale, shift = affine.at(rank)
        if value is None or value.rank != rank:
            raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        part = for_operand(Affine(scale * factor, shift), value, rank)
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
            raise self.blocked(node, "has inputs of unknown rank", Reason.SHAPE_UNKNOWN)
        if node.op == "Div" and slot == 1:
            raise self.blocked(node, f"divides by {value.name}")
        lifted = from_operand(affine, value.rank, rank)
        constant = unless_blocked(constant_of, node.inputs[other])
        if constant is None and not affine.has_shift:
            return Answer(goals=(Down(node.out, lifted),), note="(s*x) * z = s * (x*z)")
        if unless_blocked(spread_of, node.inputs[other]) is None:
            raise self.blocked(
                node,
                "multiplies two tensors that are not constant, so a shift can't pass it",
                Reason.SHIFT,
            )
        if constant is None or (node.op == "Div" and not (affine.scale != 0).all()):
            return self._passed(node, other, lifted, rank)
        if not affine.has_shift:
            return Answer((_scaled_constant(node, other, constant, lifted, rank),), note="K = s*K")
        return [
            partial(self._passed, node, other, lifted, rank),
            partial(self._split, node, other, constant, lifted, rank),
        ]

    @staticmethod
    def _passed(node: Node, other: int, affine: Affine, rank: int) -> Answer:
        """Let all of an affine go on behind the node."""
        scale, shift = affine.at(rank)
        part = Affine(scale, shift * movable_factor(node, other, rank))
        return Answer(goals=(Down(node.out, part),), note="K*(s*x + t) = s*(K*x) + K*t")

    @staticmethod
    def _split(node: Node, other: int, constant: Expression, affine: Affine, rank: int) -> Answer:
        """Let the constant take the scale in, and the shift go on behind the node."""
        if not affine.has_scale:
            raise Operator.blocked(node, "has no scale to absorb")
        part = Affine(np.ones(()), affine.at(rank)[1] * movable_factor(node, other, rank))
        edit = _scaled_constant(node, other, constant, affine, rank)
        return Answer((edit,), (Down(node.out, part),), note="K*(s*x + t) = (s*K)*x + K*t")


def _scaled_constant(
    node: Node, slot: int, constant: Expression, affine: Affine, rank: int
) -> Replace:
    """Return the edit that lets a constant factor, or divisor, take a scale in."""
    scale = affine.scale if node.op == "Mul" else 1 / affine.scale
    scale = strip_leading(align(scale, rank), len(constant.shape))
    return Replace(node.key, slot, Scaled(constant, scale), node.operand(slot).name)


def movable_factor(node: Node, slot: int, rank: int) -> Wide:
    """Return the constant factor ``K`` (or ``1/K`` of a divisor) with all axes of the output.

    Raises
    ------
    Blocked
        If it is no constant, too large, or the reciprocal of 0.
    """
    constant = spread_of(node.inputs[slot])
    if np.prod(constant.shape) > LARGEST_MOVED:
        detail = (
            f"has a constant of more than {LARGEST_MOVED:,} elements, too large to move past it"
        )
        raise Operator.blocked(node, detail, Reason.AXIS)
    wide = constant.wide().astype(np.longdouble)
    wide = wide.reshape((1,) * (rank - wide.ndim) + wide.shape)
    if node.op == "Div":
        if (wide == 0).any():
            raise Operator.blocked(node, "divides by a constant that has a 0", Reason.NON_FINITE)
        return 1 / wide
    return wide

"""Add, Sub, Sum and Mean of tensors, constants among them.

Up: ``s * (a + b) + t = (s*a) + (s*b + t)``: the scale goes to every operand, the shift to one of
them, a constant one first. Down: ``(s*a + t) + b``: a shift passes; a scale only beside constants.
Of the mean of n tensors, n times the shift goes up, and an nth of it down.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer, Down, Goal, Up, Way
from normswap.folding.edits import Bypass, Edit, Replace
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
from normswap.graph.decomposed import affine_of_link, link
from normswap.graph.evaluate import constant_of, is_constant
from normswap.graph.formulas import Scaled
from normswap.graph.reasons import Block, Blocked, Reason, unless_blocked
from normswap.graph.removal import removal_block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normswap.dtypes import Wide
    from normswap.graph.expressions import Expression
    from normswap.graph.network import Node, Use


TOO_LARGE = f"adds a constant of more than {LARGEST_MOVED:,} elements, too large to move past it"


class Add(Operator):
    """Carries a scale to all operands and a shift to one."""

    ops = ("Add", "Sub", "Sum", "Mean")

    def up(self, node: Node, index: int, affine: Affine) -> Sequence[Way]:
        rank = output_rank(node, affine)
        if rank is None:
            raise self.blocked(node, "has an output of unknown rank", Reason.SHAPE_UNKNOWN)
        slots = [slot for slot, value in enumerate(node.inputs) if value is not None]
        # Constants first: there a route ends.
        slots.sort(key=lambda slot: not is_constant(node.inputs[slot]))
        takers = slots if affine.has_shift else slots[:1]
        ways: list[Way] = [partial(self._taken, node, t, slots, affine, rank) for t in takers]
        use = link(node)
        if use is not None and not is_constant(node.inputs[1 - use.slot]):
            ways.append(partial(self._composed, node, use, affine, rank))
        return ways

    @staticmethod
    def _composed(node: Node, use: Use, affine: Affine, rank: int) -> Answer:
        """Take the node out, and what it adds along: a constant of a size that is not known."""
        kept, value = removal_block([use]), node.inputs[use.slot]
        if kept is not None or value is None:
            raise Blocked.by(kept or Block(Reason.MALFORMED, node.title))
        part = for_operand(affine_of_link(use).then(affine), value, rank)
        return Answer(
            goals=(Up(use, part),), then=(Bypass(node.key, use.slot),), note="s*(x + K) + t"
        )

    @staticmethod
    def _taken(node: Node, taker: int, slots: list[int], affine: Affine, rank: int) -> Answer:
        """Hand the scale to every operand, and the shift to one."""
        edits: list[Edit] = []
        goals: list[Goal] = []
        for slot in [taker, *(other for other in slots if other != taker)]:
            part = affine if slot == taker else affine.scale_only()
            if slot == taker and node.op == "Sub" and slot == 1:
                part = Affine(affine.scale, -affine.shift)
            elif slot == taker and node.op == "Mean":
                part = Affine(affine.scale, affine.shift * len(slots))
            answer = to_operand(node, slot, part, rank)
            edits += answer.edits
            goals += answer.goals
        return Answer(tuple(edits), tuple(goals), note="s*a + (s*b + t)")

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        others = [other for other in range(len(node.inputs)) if other != slot]
        constants = {
            other: found
            for other in others
            if (found := unless_blocked(constant_of, node.inputs[other])) is not None
        }
        rank = node.out.rank
        value = node.inputs[slot]
        if rank is None or value is None or value.rank is None:
            raise self.blocked(node, "has inputs of unknown rank", Reason.SHAPE_UNKNOWN)
        if node.op == "Sub" and slot == 1:
            affine = Affine(affine.scale, -affine.shift)
        # The affine is over this operand; the output may have more axes to the left.
        lifted = from_operand(affine, value.rank, rank)
        count = len(node.inputs) if node.op == "Mean" else 1
        if not affine.has_scale:
            for other, constant in constants.items():
                shift = lifted.shift if not (node.op == "Sub" and other == 1) else -lifted.shift
                moved = strip_leading(align(shift, rank), len(constant.shape))
                changed = Scaled(constant, np.ones(()), moved)
                edit = Replace(node.key, other, changed, node.operand(other).name)
                return Answer((edit,), note="K = K + t")
            passed = Affine(lifted.scale, lifted.shift / count)
            return Answer(goals=(Down(node.out, passed),), note="(x + t) + z = (x + z) + t")
        if len(constants) < len(others):
            raise self.blocked(
                node, "adds a tensor that is not constant, so a scale can't pass it", Reason.SCALE
            )
        # s*x + t + K = s*(x + K) + (t + K - s*K), for constants that are as simple as the affine
        total: Wide = np.zeros((1,) * rank)
        for other, constant in constants.items():
            if np.prod(constant.shape) > LARGEST_MOVED:
                raise self.blocked(node, TOO_LARGE, Reason.AXIS)
            sign = -1 if node.op == "Sub" and other == 1 else 1
            wide = constant.wide()
            total = total + sign * wide.reshape((1,) * (rank - wide.ndim) + wide.shape)
        scale, shift = lifted.at(rank)
        enlarges = np.abs(scale) > 1
        if np.broadcast(enlarges, shift, total).size > LARGEST_MOVED:
            raise self.blocked(node, TOO_LARGE, Reason.AXIS)
        edits = _shrunk(node, constants, enlarges, (shift + total) / np.where(enlarges, scale, 1))
        moved_on = Affine(scale, np.where(enlarges, 0, shift + total - scale * total) / count)
        return Answer(edits, (Down(node.out, moved_on),), note="s*x + t + K = s*(x + K) + ...")


def _shrunk(
    node: Node, constants: Mapping[int, Expression], where: Wide, values: Wide
) -> tuple[Edit, ...]:
    """Return the edits by which a node adds ``(t + K)/s`` to x instead of K to ``s*x + t``.

    So where the scale enlarges: a K that stays would be enlarged with x, and taken off again after
    that. What is left of two large numbers then has as many digits less as the scale has.

    Parameters
    ----------
    node : Node
    constants : Mapping[int, Expression]
        By slot.
    where : (...,) ndarray of bool
    values : (...,) ndarray of float64 or long double
        Both have all axes of the output.
    """
    if not where.any():
        return ()
    edits: list[Edit] = []
    for number, (slot, constant) in enumerate(constants.items()):
        sign = -1 if node.op == "Sub" and slot == 1 else 1
        added = np.where(where, sign * values, 0) if number == 0 else np.zeros((1,) * values.ndim)
        stays, added = (strip_leading(a, len(constant.shape)) for a in (1.0 - where, added))
        edits.append(
            Replace(node.key, slot, Scaled(constant, stays, added), node.operand(slot).name)
        )
    return tuple(edits)

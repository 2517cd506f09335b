"""Relu and others that are positively homogeneous: ``f(s*x) = s*f(x)`` for every s >= 0.

A shift can't pass them in either direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from normswap.answers import Answer, Block, Down, Up
from normswap.evaluate import constant_source
from normswap.graph import Node, Use
from normswap.operators.base import Answers, Operator
from normswap.reasons import Reason

if TYPE_CHECKING:
    from normswap.affine import Affine


class PositivelyHomogeneous(Operator):
    """Carries a scale that is nowhere negative."""

    ops: ClassVar[tuple[str, ...]] = ("Relu", "LeakyRelu", "Abs")

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        yield self.blocked(node, affine) or Answer(
            goals=(Up(Use(node, 0), affine),), note="s*f(x) = f(s*x) for s >= 0"
        )

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        del slot
        yield self.blocked(node, affine) or Answer(
            goals=(Down(node.out, affine),), note="f(s*x) = s*f(x) for s >= 0"
        )

    def blocked(self, node: Node, affine: Affine) -> Block | None:
        """Say what of an affine can't pass, if anything."""
        if not affine.is_nonnegative:
            which = np.flatnonzero(affine.scale.reshape(-1) < 0)
            count = f"{which.size} of {affine.scale.size} channels"
            first = ", ".join(str(channel) for channel in which[:5])
            more = ", ..." if which.size > 5 else ""
            detail = f"keeps order, and the scale is negative in {count} ({first}{more})"
            return self.block(node, detail, Reason.NEGATIVE_SCALE)
        if affine.has_shift:
            return self.block(node, "is not linear, so a shift can't pass it", Reason.NONLINEAR)
        return None


class PRelu(PositivelyHomogeneous):
    """The slope is an operand of its own, which is not the one that an affine may come by."""

    ops = ("PRelu",)

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        if slot != 0:
            yield self.block(node, "takes its slope from the tensor")
            return
        yield from super().down(node, slot, affine)


class Clip(PositivelyHomogeneous):
    """Is a Relu where it has the minimum 0 and no maximum."""

    ops = ("Clip",)

    def blocked(self, node: Node, affine: Affine) -> Block | None:
        low, high = (self._limit(node, slot) for slot in (1, 2))
        if low in (None, 0.0) and high in (None, 0.0):
            return super().blocked(node, affine)
        return self.block(node, "has limits, which don't scale", Reason.NONLINEAR)

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        if slot != 0:
            yield self.block(node, "takes a limit from the tensor")
            return
        yield from super().down(node, slot, affine)

    @staticmethod
    def _limit(node: Node, slot: int) -> float | None:
        """Return a limit, None where there is none, NaN where it is not known."""
        if node.opset < 11:
            value = node.attr("min" if slot == 1 else "max", None)
            if value is not None and abs(value) >= float(np.finfo(np.float32).max):
                return None  # the default of opset 6
            return None if value is None else float(value)
        operand = node.input(slot)
        if operand is None:
            return None
        source = constant_source(operand)
        return float("nan") if isinstance(source, Block) else float(source.load().reshape(-1)[0])

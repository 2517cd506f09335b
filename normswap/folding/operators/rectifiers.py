"""Relu and others that are positively homogeneous: ``f(s*x) = s*f(x)`` for every s >= 0.

A shift can't pass them in either direction.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators import conditions
from normswap.folding.operators.base import Answers, Operator
from normswap.graph.affine import Affine
from normswap.graph.evaluate import constant_source
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Block, Reason


class PositivelyHomogeneous(Operator):
    """Carries a scale that is nowhere negative."""

    ops: ClassVar[tuple[str, ...]] = ("Relu", "LeakyRelu")

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
        why = "is not linear, so a shift can't pass it"
        return conditions.negative_scale(node, affine) or conditions.shift(
            node, affine, why, Reason.NONLINEAR
        )


class Abs(PositivelyHomogeneous):
    """Down, ``|s*x| = |s| * |x|`` whatever s is."""

    ops = ("Abs",)

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        yield from super().down(node, slot, Affine(np.abs(affine.scale), affine.shift))


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
            return None if value is None else _finite(float(value))
        operand = node.input(slot)
        if operand is None:
            return None
        source = constant_source(operand)
        return float("nan") if isinstance(source, Block) else _finite(float(source.load().item()))


def _finite(limit: float) -> float | None:
    """Return a limit, None where it limits nothing: the defaults of opset 6 among others."""
    return None if abs(limit) >= float(np.finfo(np.float32).max) else limit

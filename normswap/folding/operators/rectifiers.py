"""Relu and others that are positively homogeneous: ``f(s*x) = s*f(x)`` for every s >= 0.

A shift can't pass them in either direction.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators import conditions
from normswap.folding.operators.base import Operator
from normswap.graph.affine import Affine
from normswap.graph.evaluate import constant_source
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason, unless_blocked


class PositivelyHomogeneous(Operator):
    """Carries a scale that is nowhere negative."""

    ops: ClassVar[tuple[str, ...]] = ("Relu", "LeakyRelu")

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        self.require(node, affine)
        return Answer(goals=(Up(Use(node, 0), affine),), note="s*f(x) = f(s*x) for s >= 0")

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        self.require(node, affine)
        return Answer(goals=(Down(node.out, affine),), note="f(s*x) = s*f(x) for s >= 0")

    def require(self, node: Node, affine: Affine) -> None:
        """Let pass which affines can."""
        conditions.require_no_negative_scale(node, affine)
        why = "is not linear"
        conditions.require_no_shift(node, affine, why, Reason.NONLINEAR)


class Abs(PositivelyHomogeneous):
    """Down, ``|s*x| = |s| * |x|`` whatever s is."""

    ops = ("Abs",)

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        return super().down(node, slot, Affine(np.abs(affine.scale), affine.shift))


class PRelu(PositivelyHomogeneous):
    """The slope is an operand of its own, which is not the one that an affine may come by."""

    ops = ("PRelu",)

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0:
            raise self.blocked(node, f"uses {node.operand(slot).name} as its slope")
        return super().down(node, slot, affine)


class Clip(PositivelyHomogeneous):
    """Is a Relu where it has the minimum 0 and no maximum."""

    ops = ("Clip",)

    def require(self, node: Node, affine: Affine) -> None:
        low, high = (self._limit(node, slot) for slot in (1, 2))
        if low not in (None, 0.0) or high not in (None, 0.0):
            raise self.blocked(
                node, "has limits (min or max), so a scale can't pass it", Reason.NONLINEAR
            )
        super().require(node, affine)

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0:
            raise self.blocked(node, f"uses {node.operand(slot).name} as a limit")
        return super().down(node, slot, affine)

    @staticmethod
    def _limit(node: Node, slot: int) -> float | None:
        """Return a limit, None where there is none, NaN where it is not known."""
        if node.opset < 11:
            value = node.attr("min" if slot == 1 else "max", None)
            return None if value is None else _finite(float(value))
        operand = node.input(slot)
        if operand is None:
            return None
        source = unless_blocked(constant_source, operand)
        return float("nan") if source is None else _finite(float(source.load().item()))


def _finite(limit: float) -> float | None:
    """Return a limit, None where it limits nothing: the defaults of opset 6 among others."""
    return None if abs(limit) >= float(np.finfo(np.float32).max) else limit

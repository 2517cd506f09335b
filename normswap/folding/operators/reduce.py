"""Reductions: what is constant along the axes that are reduced passes them.

mean(s*x + t) = s*mean(x) + t            sum(s*x + t) = s*sum(x) + n*t
max(s*x + t) = s*max(x) + t, s >= 0      |s*x| = |s| * |x| for the norms L1 and L2
"""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators import conditions
from normswap.folding.operators.base import Operator
from normswap.graph.affine import Affine
from normswap.graph.evaluate import integers_of
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason


class Reduce(Operator):
    """What reductions have in common: the axes."""

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        axes = reduced_axes(node)
        if not node.attr("keepdims", 1):
            kept = _rank(node) - len(axes)
            affine = affine.relaid(kept, lambda array: np.expand_dims(array, tuple(axes)))
        return Answer(goals=(Up(Use(node, 0), self.before(node, affine, axes)),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0:
            raise self.blocked(node, f"uses {node.operand(slot).name} as its axes")
        axes = reduced_axes(node)
        part = self.after(node, affine, axes)
        if not node.attr("keepdims", 1):
            part = part.relaid(_rank(node), lambda array: array.squeeze(tuple(axes)))
        return Answer(goals=(Down(node.out, part),))

    @abstractmethod
    def before(self, node: Node, affine: Affine, axes: list[int]) -> Affine:
        """Return the affine of the input that makes this one of the output."""

    @abstractmethod
    def after(self, node: Node, affine: Affine, axes: list[int]) -> Affine:
        """Return what an affine of the input makes of the output."""


class ReduceMean(Reduce):
    """Carries everything; a sum of n elements has n times the shift."""

    ops = ("ReduceMean", "ReduceSum")

    def before(self, node: Node, affine: Affine, axes: list[int]) -> Affine:
        count = self._count(node, axes) if affine.has_shift else 1
        return Affine(affine.scale, affine.shift / count)

    def after(self, node: Node, affine: Affine, axes: list[int]) -> Affine:
        conditions.require_only_along(node, affine.scale_only(), *_others(node, axes))
        count = self._count(node, axes) if affine.has_shift else 1
        scale, shift = affine.at(_rank(node))
        return Affine(scale, shift.mean(axis=tuple(axes), keepdims=True) * count)

    def _count(self, node: Node, axes: list[int]) -> int:
        """Return by how much more than the mean the result is."""
        if node.op == "ReduceMean":
            return 1
        value = node.inputs[0]
        sizes = [value.shape[axis] for axis in axes] if value and value.shape else [None]
        static = [size for size in sizes if isinstance(size, int)]
        if len(static) < len(sizes) or 0 in static:
            detail = "sums over an axis of unknown size"
            raise self.blocked(node, detail, Reason.SHAPE_UNKNOWN)
        return math.prod(static)


class ReduceMax(Reduce):
    """Carries everything where no scale is negative."""

    ops = ("ReduceMax", "ReduceMin")

    def before(self, node: Node, affine: Affine, axes: list[int]) -> Affine:
        conditions.require_no_negative_scale(node, affine)
        return affine

    def after(self, node: Node, affine: Affine, axes: list[int]) -> Affine:
        conditions.require_only_along(node, affine, *_others(node, axes))
        conditions.require_no_negative_scale(node, affine)
        return affine


NORM = "is a norm"


class ReduceL1(Reduce):
    """Carries a scale; that of the norm is its magnitude."""

    ops = ("ReduceL1", "ReduceL2")

    def before(self, node: Node, affine: Affine, axes: list[int]) -> Affine:
        conditions.require_no_negative_scale(node, affine)
        conditions.require_no_shift(node, affine, NORM, Reason.NONLINEAR)
        return affine

    def after(self, node: Node, affine: Affine, axes: list[int]) -> Affine:
        conditions.require_only_along(node, affine, *_others(node, axes))
        conditions.require_no_shift(node, affine, NORM, Reason.NONLINEAR)
        return Affine(np.abs(affine.scale), affine.shift)


def reduced_axes(node: Node) -> list[int]:
    """Return the axes that a reduction reduces: an attribute, or an input in later versions.

    Raises
    ------
    Blocked
        If they are not known.
    """
    value = node.inputs[0]
    if value is None or value.rank is None:
        raise Operator.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
    axes = node.attr("axes", None)
    operand = node.input(1)
    if operand is not None:
        axes = integers_of(operand)
        if axes is None:
            raise Operator.blocked(
                node, "has axes that are computed at run time", Reason.NOT_CONSTANT
            )
    if not axes:
        return [] if node.attr("noop_with_empty_axes", 0) else list(range(value.rank))
    return sorted({int(axis) % value.rank for axis in axes})


def _rank(node: Node) -> int:
    value = node.inputs[0]
    if value is None or value.rank is None:
        raise AssertionError("the axes are not known without the rank")
    return value.rank


def _others(node: Node, axes: list[int]) -> list[int]:
    """Return the axes that are not reduced."""
    return [axis for axis in range(_rank(node)) if axis not in axes]

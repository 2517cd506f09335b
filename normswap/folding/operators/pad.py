"""Pad: elements are put in at the border, or cut off.

Copies of what is inside (edge, reflect, wrap) are picked elements. A constant does not change with
the affine, so it must be one that the affine leaves as it is: 0 without a shift, for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators.base import Operator
from normswap.folding.operators.selection import OUTSIDE, picked, put_back
from normswap.graph.evaluate import constant_source, integers_of
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason, unless_blocked

if TYPE_CHECKING:
    from normswap.graph.affine import Affine

Pads = dict[int, tuple[int, int]]


class Pad(Operator):
    """Carries an affine; past a constant only one that leaves the constant as it is."""

    ops = ("Pad",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        return self._carried(node, affine, up=True)

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0:
            raise self.blocked(node, f"uses {node.operand(slot).name} as its pads, axes or value")
        return self._carried(node, affine, up=False)

    def _carried(self, node: Node, affine: Affine, *, up: bool) -> Answer:
        pads = self._pads(node)
        value = node.inputs[0]
        if value is None or value.shape is None:
            raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        rank = len(value.shape)
        constant = node.attr("mode", "constant") == "constant"
        if constant and any(
            max(pads[axis]) > 0 and (up or not affine.varies_along(axis)) for axis in pads
        ):
            # Down, padding along the axis that varies has channels of its own: the identity.
            self._require_same_padding(node, affine, pads, up=up)
        for axis, (before, after) in pads.items():
            if not affine.varies_along(axis) or (before, after) == (0, 0):
                continue
            size = value.shape[axis]
            if not isinstance(size, int):
                raise self.blocked(
                    node, f"pads axis {axis}, whose size is not known", Reason.SHAPE_UNKNOWN
                )
            indices = _indices(size, before, after, node.attr("mode", "constant"))
            part = (
                put_back(affine, rank, axis, indices, size)
                if up
                else picked(affine, rank, axis, indices)
            )
            if part is None:
                detail = f"repeats axis {axis}, and the copies have different scales or shifts"
                raise self.blocked(node, detail, Reason.AXIS)
            affine = part
        return Answer(goals=(Up(Use(node, 0), affine) if up else Down(node.out, affine),))

    def _require_same_padding(self, node: Node, affine: Affine, pads: Pads, *, up: bool) -> None:
        """Let pass what does not change the padding."""
        value = self._constant(node)
        if value is None:
            raise self.blocked(
                node, "pads with a value that is computed at run time", Reason.NOT_CONSTANT
            )
        padded = [axis for axis, widths in pads.items() if max(widths) > 0]
        part = affine
        if up and all(affine.varies_along(axis) for axis in padded) and len(padded) == 1:
            # Only the channels that are put in have to stay.
            (axis,) = padded
            before, after = pads[axis]
            size = max(affine.scale.shape[axis : axis + 1] + affine.shift.shape[axis : axis + 1])
            outside = (
                [*range(before), *range(size - after, size)] if after > 0 else [*range(before)]
            )
            part = picked(affine, affine.ndim, axis, outside)
        if (part.apply(value) != value).any():
            detail = f"pads with {value:g}, which the scale or shift would change"
            raise self.blocked(node, detail, Reason.ZERO_PADDING)

    @staticmethod
    def _constant(node: Node) -> float | None:
        """Return what is padded with, None where it is computed at run time."""
        if node.opset < 11:
            return float(node.attr("value", 0.0))
        operand = node.input(2)
        if operand is None:
            return 0.0
        source = unless_blocked(constant_source, operand)
        return None if source is None else float(source.load().reshape(-1)[0])

    def _pads(self, node: Node) -> Pads:
        """Return the padding before and after each axis that has any."""
        value = node.inputs[0]
        if value is None or value.rank is None:
            raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        pads = node.attr("pads", None) if node.opset < 11 else integers_of(node.input(1))
        axes = list(range(value.rank))
        if node.input(3) is not None:
            named = integers_of(node.input(3))
            if named is None:
                raise self.blocked(
                    node, "has axes that are computed at run time", Reason.NOT_CONSTANT
                )
            axes = [axis % value.rank for axis in named]
        if pads is None:
            raise self.blocked(node, "has pads that are computed at run time", Reason.NOT_CONSTANT)
        count = len(axes)
        widths = [(int(pads[i]), int(pads[i + count])) for i in range(count)]
        return {axis: width for axis, width in zip(axes, widths, strict=True) if width != (0, 0)}


def _indices(size: int, before: int, after: int, mode: str) -> list[int]:
    """Return which element each one of a padded axis is a copy of."""
    widths = (max(before, 0), max(after, 0))
    inside = np.arange(size)[max(-before, 0) : size - max(-after, 0)]
    if mode == "constant":
        padded = np.pad(inside, widths, constant_values=OUTSIDE)
    else:
        padded = np.pad(inside, widths, mode=mode)  # type: ignore[call-overload]
    return [int(i) for i in padded]

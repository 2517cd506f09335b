"""Normalizations by statistics of the data: InstanceNormalization, Group-, Layer- and RMS-.

    y = scale * (x - mean) / sqrt(var + epsilon) + bias

Up: ``scale' = s*scale``, ``bias' = s*bias + t``, where these have a value for each of s and t.

Down: what is shifted as a whole has its mean shifted as much, so a shift that is constant where the
mean is taken is gone. Scaled by s, the variance is s*s times as large: the same as epsilon/(s*s),
one for the whole node, and the sign of s goes into the scale. Where epsilon is 0, s may have
another magnitude for each variance that is taken (each channel, each group), but not within one.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from normswap.folding.answers import Answer
from normswap.folding.edits import Edit, Replace, SetAttribute
from normswap.folding.operators import conditions
from normswap.folding.operators.base import Operator
from normswap.graph.affine import Affine
from normswap.graph.batchnorm import epsilon_of
from normswap.graph.evaluate import constant_of
from normswap.graph.expressions import Expression, Filled
from normswap.graph.formulas import Scaled
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.dtypes import Wide
    from normswap.graph.network import Node


class InputNormalization(Operator):
    """What these have in common: they normalize by statistics of the input itself."""

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        scale = constant_of(node.input(1))
        s, t = self.parameters(node, affine, scale)
        edits: list[Edit] = []
        if (s != 1).any():
            edits.append(Replace(node.key, 1, Scaled(scale, s), node.operand(1).name))
        present = node.input(2)
        if present is not None:
            edits.append(Replace(node.key, 2, Scaled(constant_of(present), s, t), present.name))
        elif (t != 0).any():
            if node.op == "RMSNormalization":
                raise self.blocked(node, "has no bias to absorb a shift", Reason.SHIFT)
            shift = Filled(np.broadcast_to(t, scale.shape).copy(), scale.data_type)
            edits.append(Replace(node.key, 2, shift, f"{node.title}_bias"))
        return Answer(tuple(edits), note="scale *= s, bias = s*bias + t")

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0:
            detail = f"uses {node.operand(slot).name} as a parameter"
            raise self.blocked(node, detail, Reason.NOT_CONSTANT)
        scale = constant_of(node.input(1))
        self.require_even(node, affine)
        magnitudes = np.unique(np.abs(affine.scale))
        epsilon = epsilon_of(node)
        if (magnitudes == 0).any():
            detail = "divides by the standard deviation, which a scale of 0 makes 0"
            raise self.blocked(node, detail, Reason.SCALE)
        if magnitudes.size > 1 and epsilon != 0:
            raise self.blocked(node, "would need a different epsilon per channel", Reason.SCALE)
        edits: list[Edit] = []
        if epsilon != 0 and magnitudes[0] != 1:
            with np.errstate(over="ignore", divide="ignore"):  # infinity is looked at below
                wanted = epsilon / magnitudes[0] ** 2
                changed = np.float32(wanted)
            rounded = changed != wanted and scale.data_type == TensorProto.DOUBLE
            if not np.finfo(np.float32).tiny <= changed < np.inf or rounded:
                # An attribute is a float32, which is not enough for a float64 tensor.
                detail = f"would need an epsilon of {float(wanted):g}, which no float32 holds"
                raise self.blocked(node, detail, Reason.OVERFLOW)
            edits.append(SetAttribute(node.key, "epsilon", float(changed)))
        signs, _ = self.parameters(node, Affine(np.sign(affine.scale), np.zeros(())), scale)
        if (signs != 1).any():
            edits.append(Replace(node.key, 1, Scaled(scale, signs), node.operand(1).name))
        return Answer(tuple(edits), note="epsilon /= s*s, scale *= sign(s)")

    @abstractmethod
    def parameters(self, node: Node, affine: Affine, scale: Expression) -> tuple[Wide, Wide]:
        """Lay s and t out like the node's own scale and bias, or be blocked."""

    @abstractmethod
    def require_even(self, node: Node, affine: Affine) -> None:
        """Let pass what is constant where the node takes its mean."""


class InstanceNormalization(InputNormalization):
    """Statistics of each channel of each sample; parameters per channel."""

    ops = ("InstanceNormalization",)

    def parameters(self, node: Node, affine: Affine, scale: Expression) -> tuple[Wide, Wide]:
        conditions.require_only_along(node, affine, 1)
        return affine.vectors(scale.shape[0])

    def require_even(self, node: Node, affine: Affine) -> None:
        conditions.require_only_along(node, affine, 1)


class GroupNormalization(InputNormalization):
    """Statistics of each group of channels; parameters per channel, in version 18 per group."""

    ops = ("GroupNormalization",)

    def parameters(self, node: Node, affine: Affine, scale: Expression) -> tuple[Wide, Wide]:
        conditions.require_only_along(node, affine, 1)
        if node.opset >= 21:
            return affine.vectors(scale.shape[0])
        s, t = (_per_group(array, scale.shape[0]) for array in (affine.scale, affine.shift))
        if s is None or t is None:
            detail = "has one scale per group, and scales or shifts differ within a group"
            raise self.blocked(node, detail, Reason.AXIS)
        return s, t

    def require_even(self, node: Node, affine: Affine) -> None:
        conditions.require_only_along(node, affine, 1)
        groups = int(node.attr("num_groups", 1))
        if any(_per_group(array, groups) is None for array in (affine.scale, affine.shift)):
            detail = "takes the mean over channels with different scales or shifts"
            raise self.blocked(node, detail, Reason.AXIS)


class LayerNormalization(InputNormalization):
    """Statistics over the last axes, from ``axis`` on; parameters for each element of these."""

    ops = ("LayerNormalization", "RMSNormalization")
    right_up = (1, 2)  # mean and deviation, which come before scale and bias

    def parameters(self, node: Node, affine: Affine, scale: Expression) -> tuple[Wide, Wide]:
        axis, rank = self._axis(node)
        conditions.require_only_along(node, affine, *range(axis, rank))
        s, t = (array.reshape(array.shape[axis:]) for array in affine.at(rank))
        if np.broadcast_shapes(scale.shape, s.shape, t.shape) != scale.shape:
            raise self.blocked(
                node, "has a scale that is broadcast along the axis that is scaled", Reason.AXIS
            )
        return s, t

    def require_even(self, node: Node, affine: Affine) -> None:
        axis, _ = self._axis(node)
        if node.op == "RMSNormalization":
            conditions.require_no_shift(node, affine, "does not subtract the mean")
        conditions.require_only_along(node, affine.scale_only())
        conditions.require_only_along(node, affine.shift_only(), *range(axis))

    def _axis(self, node: Node) -> tuple[int, int]:
        """Return the first of the axes over which statistics are taken, and the rank."""
        value = node.inputs[0]
        if value is None or value.rank is None:
            raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        return int(node.attr("axis", -1)) % value.rank, value.rank


def _per_group(array: Wide, groups: int) -> Wide | None:
    """Return one value for each group of a per-channel array, None where a group has several."""
    vector = array.reshape(-1)
    if vector.size == 1:
        return np.broadcast_to(vector, (groups,))
    if vector.size % groups:
        return None
    rows = vector.reshape(groups, -1)
    return rows[:, 0] if (rows == rows[:, :1]).all() else None

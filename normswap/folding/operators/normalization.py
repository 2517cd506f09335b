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
from normswap.folding.operators.base import Answers, Operator
from normswap.graph.affine import Affine
from normswap.graph.batchnorm import epsilon_of
from normswap.graph.evaluate import constant_of
from normswap.graph.expressions import Expression, Filled, Scaled
from normswap.graph.reasons import Block, Reason

if TYPE_CHECKING:
    from normswap.dtypes import Wide
    from normswap.graph.network import Node


class Normalization(Operator):
    """What these have in common."""

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        scale = constant_of(node.input(1))
        if isinstance(scale, Block):
            yield scale
            return
        parts = self.parameters(node, affine, scale)
        if isinstance(parts, Block):
            yield parts
            return
        yield self._edited(node, scale, *parts)

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        scale = constant_of(node.input(1))
        if slot != 0:
            yield self.block(node, "takes a parameter from the tensor", Reason.NOT_CONSTANT)
            return
        if isinstance(scale, Block):
            yield scale
            return
        blocked = self.uneven(node, affine)
        magnitudes = np.unique(np.abs(affine.scale))
        epsilon = epsilon_of(node)
        if blocked is None and (magnitudes == 0).any():
            detail = "divides by the spread, which a scale of 0 makes 0"
            blocked = self.block(node, detail, Reason.SCALE)
        if blocked is None and magnitudes.size > 1 and epsilon != 0:
            detail = "would need another epsilon in every channel"
            blocked = self.block(node, detail, Reason.SCALE)
        if blocked is not None:
            yield blocked
            return
        edits: list[Edit] = []
        if epsilon != 0 and magnitudes[0] != 1:
            with np.errstate(over="ignore", divide="ignore"):  # infinity is looked at below
                wanted = epsilon / magnitudes[0] ** 2
                changed = np.float32(wanted)
            rounded = changed != wanted and scale.data_type == TensorProto.DOUBLE
            if not np.finfo(np.float32).tiny <= changed < np.inf or rounded:
                # An attribute is a float32, which is not enough for a float64 tensor.
                detail = f"would need an epsilon of {float(wanted):g}, more or finer than a float32"
                yield self.block(node, detail, Reason.OVERFLOW)
                return
            edits.append(SetAttribute(node.key, "epsilon", float(changed)))
        signs = self.parameters(node, Affine(np.sign(affine.scale), np.zeros(())), scale)
        if isinstance(signs, Block):
            yield signs
            return
        if (signs[0] != 1).any():
            name = node.inputs[1].name  # type: ignore[union-attr]
            edits.append(Replace(node.key, 1, Scaled(scale, signs[0]), name))
        yield Answer(tuple(edits), note="epsilon /= s*s, scale *= sign(s)")

    def _edited(self, node: Node, scale: Expression, s: Wide, t: Wide) -> Answer | Block:
        edits: list[Edit] = []
        if (s != 1).any():
            name = node.inputs[1].name  # type: ignore[union-attr]
            edits.append(Replace(node.key, 1, Scaled(scale, s), name))
        present = node.input(2)
        if present is not None:
            bias = constant_of(present)
            if isinstance(bias, Block):
                return bias
            edits.append(Replace(node.key, 2, Scaled(bias, s, t), present.name))
        elif (t != 0).any():
            if node.op == "RMSNormalization":
                return self.block(node, "has no bias that would take a shift", Reason.SHIFT)
            shift = Filled(np.broadcast_to(t, scale.shape).copy(), scale.data_type)
            edits.append(Replace(node.key, 2, shift, f"{node.title}_bias"))
        return Answer(tuple(edits), note="scale *= s, bias = s*bias + t")

    @abstractmethod
    def parameters(
        self, node: Node, affine: Affine, scale: Expression
    ) -> tuple[Wide, Wide] | Block:
        """Lay s and t out like the node's own scale and bias."""

    @abstractmethod
    def uneven(self, node: Node, affine: Affine) -> Block | None:
        """Say that an affine is not constant where the node takes its mean, if so."""


class InstanceNormalization(Normalization):
    """Statistics of each channel of each sample; parameters per channel."""

    ops = ("InstanceNormalization",)

    def parameters(
        self, node: Node, affine: Affine, scale: Expression
    ) -> tuple[Wide, Wide] | Block:
        blocked = conditions.beyond(node, affine, 1)
        return blocked or affine.vectors(1, scale.shape[0])

    def uneven(self, node: Node, affine: Affine) -> Block | None:
        return conditions.beyond(node, affine, 1)


class GroupNormalization(Normalization):
    """Statistics of each group of channels; parameters per channel, in version 18 per group."""

    ops = ("GroupNormalization",)

    def parameters(
        self, node: Node, affine: Affine, scale: Expression
    ) -> tuple[Wide, Wide] | Block:
        blocked = conditions.beyond(node, affine, 1)
        if blocked is not None:
            return blocked
        if node.opset >= 21:
            return affine.vectors(1, scale.shape[0])
        groups = [_per_group(array, scale.shape[0]) for array in _arrays(affine)]
        if any(array is None for array in groups):
            detail = "has one scale for each group, and the affine differs within one"
            return self.block(node, detail, Reason.AXIS)
        return groups[0], groups[1]  # type: ignore[return-value]

    def uneven(self, node: Node, affine: Affine) -> Block | None:
        blocked = conditions.beyond(node, affine, 1)
        groups = int(node.attr("num_groups", 1))
        if blocked is None and any(_per_group(array, groups) is None for array in _arrays(affine)):
            detail = "takes the mean of channels that are scaled or shifted by different amounts"
            blocked = self.block(node, detail, Reason.AXIS)
        return blocked


class LayerNormalization(Normalization):
    """Statistics over the last axes, from ``axis`` on; parameters for each element of these."""

    ops = ("LayerNormalization", "RMSNormalization")
    right_up = (1, 2)  # mean and deviation, which come before scale and bias

    def parameters(
        self, node: Node, affine: Affine, scale: Expression
    ) -> tuple[Wide, Wide] | Block:
        axis, rank = self._axis(node)
        if axis is None or rank is None:
            return self.block(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        blocked = conditions.beyond(node, affine, *range(axis, rank))
        if blocked is not None:
            return blocked
        s, t = (array.reshape(array.shape[axis:]) for array in affine.at(rank))
        if np.broadcast_shapes(scale.shape, s.shape, t.shape) != scale.shape:
            return self.block(node, "has a scale that is broadcast", Reason.AXIS)
        return s, t

    def uneven(self, node: Node, affine: Affine) -> Block | None:
        axis, rank = self._axis(node)
        if axis is None or rank is None:
            return self.block(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
        if node.op == "RMSNormalization":
            why = "takes no mean from the tensor"
            blocked = conditions.shift(node, affine, why)
            if blocked is not None:
                return blocked
        return conditions.beyond(node, affine.scale_only()) or conditions.beyond(
            node, affine.shift_only(), *range(axis)
        )

    @staticmethod
    def _axis(node: Node) -> tuple[int | None, int | None]:
        value = node.inputs[0]
        rank = None if value is None else value.rank
        return None if rank is None else int(node.attr("axis", -1)) % rank, rank


def _arrays(affine: Affine) -> tuple[Wide, Wide]:
    return affine.scale, affine.shift


def _per_group(array: Wide, groups: int) -> Wide | None:
    """Return one value for each group of a per-channel array, None where a group has several."""
    vector = array.reshape(-1)
    if vector.size == 1:
        return np.broadcast_to(vector, (groups,))
    if vector.size % groups:
        return None
    rows = vector.reshape(groups, -1)
    return rows[:, 0] if (rows == rows[:, :1]).all() else None

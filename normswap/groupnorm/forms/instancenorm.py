"""Reshape, InstanceNormalization over (N, G, everything of a group), Reshape, the affine.

Source: ONNX operators InstanceNormalization (opset 6) and Reshape. Instance normalization of a
tensor whose channels are the groups is group normalization without the affine; with a group per
channel it is all of it, in one node.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from normswap.groupnorm.builder import Builder
from normswap.groupnorm.layer import Layer, Parameter


class InstanceNorm:
    """``InstanceNormalization`` of the groups."""

    name = "instancenorm"

    def obstacle(self, layer: Layer, provider: str) -> str | None:
        """Say why not; see :class:`normswap.groupnorm.forms.base.Form`."""
        del provider
        if layer.data_type == TensorProto.DOUBLE:
            return "onnxruntime's InstanceNormalization has no float64"
        return None

    def build(self, builder: Builder) -> None:
        """Make the nodes."""
        layer = builder.layer
        groups = layer.num_groups
        x = builder.input()
        if layer.is_instance and layer.rank is not None and layer.rank > 2:
            scale = np.ones(groups) if layer.scale is None else layer.scale
            bias = np.zeros(groups) if layer.bias is None else layer.bias
            builder.output(self._normalize(builder, x, scale, bias))
            return
        # What is the same for all channels of a group, the operator can apply by itself.
        scale, scale_left = per_group(layer.scale, groups, 1.0)
        bias, bias_left = per_group(layer.bias, groups, 0.0)
        if scale_left is not None and layer.bias is not None:
            bias, bias_left = np.zeros(groups), layer.bias  # the scale must come first
        y = self._normalize(builder, builder.grouped(x), scale, bias)
        builder.output(builder.affine(builder.ungrouped(y), scale_left, bias_left))

    @staticmethod
    def _normalize(builder: Builder, x: object, scale: Parameter, bias: Parameter) -> object:
        size = [builder.layer.num_groups]
        inputs = [
            x,
            builder.parameter(scale, size, "group_scale"),
            builder.parameter(bias, size, "group_bias"),
        ]
        return builder.op(
            "InstanceNormalization", inputs, "normalized", epsilon=builder.layer.epsilon
        )


def per_group(
    value: Parameter, groups: int, neutral: float
) -> tuple[Parameter, Parameter]:
    """Split a scale or bias in what the operator applies by group, and what is left by channel."""
    if value is None:
        return np.full(groups, neutral), None
    if isinstance(value, np.ndarray):
        table = value.reshape(groups, -1)
        if bool((table == table[:, :1]).all()):
            return table[:, 0], None
    return np.full(groups, neutral), value


FORM = InstanceNorm()

"""Reshape, InstanceNormalization over (N, G, everything of a group), Reshape, the affine.

Source: ONNX operators InstanceNormalization (opset 6) and Reshape. Instance normalization of a
tensor whose channels are the groups is group normalization without the affine; with a group per
channel it is all of it, in one node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from normswap.groupnorm.cpu import LayerWork
from normswap.groupnorm.cuda import has_few_long_rows
from normswap.groupnorm.forms.base import FIRST, SECOND, THIRD, Form, Preference

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from normswap.groupnorm.builder import LayerBuilder
    from normswap.groupnorm.layer import Layer, Parameter, Runtime

Vector = npt.NDArray[np.float64]


class InstanceNorm(Form):
    """``InstanceNormalization`` of the groups."""

    name = "instancenorm"
    summary = "InstanceNormalization between two Reshapes"
    operator = "InstanceNormalization"

    def limit(self, layer: Layer, provider: str) -> str | None:
        """Say which, see :class:`normswap.groupnorm.forms.base.Form`."""
        if layer.data_type == TensorProto.DOUBLE:
            return "onnxruntime's InstanceNormalization does not support float64"
        return None

    def preference(self, layer: Layer, provider: str, threads: int) -> Preference | None:
        """Prefer it on TensorRT; elsewhere where nothing better takes the layer."""
        match provider:
            case "cpu":
                return Preference(THIRD, LayerWork.of(layer, threads).why)
            case "cuda":
                few = has_few_long_rows(layer)
                why = "cuDNN's kernel, the fastest on CUDA for few large groups"
                return Preference(FIRST, why) if few else Preference(SECOND, "cuDNN's kernel")
            case "tensorrt":
                why = "TensorRT's own layer; GroupNormalization fails there"
                return Preference(FIRST, why)
        return Preference(SECOND, "before opset 21 there is no GroupNormalization")

    def build(self, builder: LayerBuilder) -> None:
        """Make the nodes."""
        layer = builder.layer
        groups = layer.num_groups
        x = builder.input()
        if layer.is_instance and layer.rank is not None and layer.rank > 2:
            scale = np.ones(groups) if layer.scale is None else layer.scale
            bias = np.zeros(groups) if layer.bias is None else layer.bias
            builder.output(self._normalize(builder, x, scale, bias))
            return
        # What is the same for all channels of a group, the operator can apply by itself; but it
        # applies its bias last, so only if no scale comes after it.
        scale, scale_left = per_group(layer.scale, groups, 1.0)
        if scale_left is None:
            bias, bias_left = per_group(layer.bias, groups, 0.0)
        else:
            bias, bias_left = np.zeros(groups), layer.bias
        y = self._normalize(builder, builder.grouped(x), scale, bias)
        builder.output(builder.affine(builder.ungrouped(y), scale_left, bias_left))

    @staticmethod
    def _normalize(
        builder: LayerBuilder, x: gs.Tensor, scale: Vector | Runtime, bias: Vector | Runtime
    ) -> gs.Tensor:
        size = [builder.layer.num_groups]
        inputs = [
            x,
            builder.parameter(scale, size, "group_scale"),
            builder.parameter(bias, size, "group_bias"),
        ]
        return builder.op(
            "InstanceNormalization", inputs, "normalized", epsilon=builder.layer.epsilon
        )


def per_group(value: Parameter, groups: int, neutral: float) -> tuple[Vector, Parameter]:
    """Split a scale or bias in what the operator applies by group, and what is left by channel."""
    if value is None:
        return np.full(groups, neutral), None
    if isinstance(value, np.ndarray):
        table = value.reshape(groups, -1)
        if bool((table == table[:, :1]).all()):
            return table[:, 0], None
    return np.full(groups, neutral), value


FORM = InstanceNorm()

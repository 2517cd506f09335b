"""Transpose, onnxruntime's fused GroupNorm of channels-last activations, Transpose.

Source: onnxruntime, ``com.microsoft.GroupNorm`` (contrib operator, version 1). It has kernels for
CUDA only, for batches of images in float32 or float16; its scale and bias are float32 always.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from normswap.groupnorm.builder import Builder
from normswap.groupnorm.layer import Layer, Parameter

DOMAIN = "com.microsoft"


class Contrib:
    """``com.microsoft.GroupNorm``."""

    name = "contrib"

    def obstacle(self, layer: Layer, provider: str) -> str | None:
        """Say why not; see :class:`normswap.groupnorm.forms.base.Form`."""
        if provider not in ("cuda", "auto"):
            return f"com.microsoft.GroupNorm has a kernel for CUDA only, not for {provider}"
        if layer.rank != 4:
            return "com.microsoft.GroupNorm takes (N, C, H, W)"
        if layer.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            return "com.microsoft.GroupNorm takes float32 and float16"
        return None

    def build(self, builder: Builder) -> None:
        """Make the nodes."""
        layer = builder.layer
        last = builder.op("Transpose", [layer.x], "channels_last", perm=[0, 2, 3, 1])
        y = builder.op(
            "GroupNorm",
            [
                last,
                self._vector(builder, layer.scale, 1.0, "scale"),
                self._vector(builder, layer.bias, 0.0, "bias"),
            ],
            "groupnorm",
            domain=DOMAIN,
            epsilon=layer.epsilon,
            groups=layer.num_groups,
            activation=0,
            channels_last=1,
        )
        builder.finish(builder.op("Transpose", [y], "channels_first", perm=[0, 3, 1, 2]))

    @staticmethod
    def _vector(builder: Builder, value: Parameter, neutral: float, what: str) -> object:
        shared = value is None
        if value is None:
            value = np.full(builder.layer.channels, neutral)
        if isinstance(value, np.ndarray):
            return builder.typed(value, TensorProto.FLOAT, what, shared=shared)
        if builder.layer.data_type != TensorProto.FLOAT:
            return builder.op("Cast", [value], f"{what}_float32", to=TensorProto.FLOAT)
        return value


FORM = Contrib()

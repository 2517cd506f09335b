"""Transpose, onnxruntime's fused GroupNorm of channels-last activations, Transpose.

Source: onnxruntime, ``com.microsoft.GroupNorm`` (contrib operator, version 1). It has kernels for
CUDA only, for batches of images in float32 or float16; its scale and bias are float32 always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto

if TYPE_CHECKING:
    from normswap.groupnorm.builder import Builder
    from normswap.groupnorm.layer import Layer

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
                builder.vector(layer.scale, 1.0, TensorProto.FLOAT, "scale"),
                builder.vector(layer.bias, 0.0, TensorProto.FLOAT, "bias"),
            ],
            "groupnorm",
            domain=DOMAIN,
            epsilon=layer.epsilon,
            groups=layer.num_groups,
            activation=0,
            channels_last=1,
        )
        builder.finish(builder.op("Transpose", [y], "channels_first", perm=[0, 3, 1, 2]))


FORM = Contrib()

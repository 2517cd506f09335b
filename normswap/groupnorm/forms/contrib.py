"""Transpose, onnxruntime's fused GroupNorm of channels-last activations, Transpose.

Source: onnxruntime, ``com.microsoft.GroupNorm`` (contrib operator, version 1). It has kernels for
CUDA only, for batches of images in float32 or float16; its scale and bias are float32 always, and
so are its sums. It reads two channels at a time, and all channels of a group in one block of up to
256 threads: so the channels of a group are even in number, and no more than 512. The SiLU behind
it, if there is one, costs nothing. The variance is ``E[x^2] - E[x]^2``, with sums by atomic
additions: as imprecise as ``native`` where the mean is large, NaN where a group is constant and
far from 0, and not the same to the last bit every time. So it is taken where it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto

from normswap.groupnorm.forms.base import Form
from normswap.groupnorm.fusion import SILU

if TYPE_CHECKING:
    from normswap.groupnorm.builder import LayerBuilder
    from normswap.groupnorm.forms.base import Preference
    from normswap.groupnorm.layer import Layer

ACTIVATIONS = {"": 0, SILU: 1}
CHANNELS_AT_A_TIME = 2
MOST_CHANNELS = 512


class Contrib(Form):
    """``com.microsoft.GroupNorm``."""

    name = "contrib"
    summary = "onnxruntime's CUDA kernel"
    operator = "GroupNorm"
    domain = "com.microsoft"
    fuses_activation = True

    def limit(self, layer: Layer, provider: str) -> str | None:
        """Say which, see :class:`normswap.groupnorm.forms.base.Form`."""
        if provider != "cuda":
            return f"com.microsoft.GroupNorm has a kernel for CUDA only, not for {provider}"
        if layer.rank != 4:
            return "com.microsoft.GroupNorm takes inputs of shape (N, C, H, W) only"
        if layer.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            return "com.microsoft.GroupNorm takes float32 and float16 only"
        channels = layer.channels // layer.num_groups
        if channels % CHANNELS_AT_A_TIME:
            return f"com.microsoft.GroupNorm needs pairs of channels, and a group has {channels}"
        if channels > MOST_CHANNELS:
            return (
                f"com.microsoft.GroupNorm takes {MOST_CHANNELS} channels per group, not {channels}"
            )
        return None

    def is_precise(self, provider: str) -> bool:
        """Tell that its variance cancels."""
        return False

    def preference(self, layer: Layer, provider: str, threads: int) -> Preference | None:
        """Leave it to those who ask for it."""
        return None

    def build(self, builder: LayerBuilder) -> None:
        """Make the nodes."""
        layer = builder.layer
        last = builder.op("Transpose", [builder.x], "channels_last", perm=[0, 2, 3, 1])
        y = builder.op(
            self.operator,
            [
                last,
                builder.vector(layer.scale, 1.0, TensorProto.FLOAT, "scale"),
                builder.vector(layer.bias, 0.0, TensorProto.FLOAT, "bias"),
            ],
            "groupnorm",
            domain=self.domain,
            epsilon=layer.epsilon,
            groups=layer.num_groups,
            activation=ACTIVATIONS[layer.activation],
            channels_last=1,
        )
        builder.finish(builder.op("Transpose", [y], "channels_first", perm=[0, 3, 1, 2]))


FORM = Contrib()

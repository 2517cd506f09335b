"""One GroupNormalization node.

Source: ONNX operator GroupNormalization, opset 21. (That of opset 18 has its scale per group and is
deprecated.) The node is the most readable form, and what compilers recognise; onnxruntime has no
kernel for it on CPU and CUDA and expands it into its definition, with the variance as
``E[x^2] - E[x]^2``, which cancels where the mean is large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import TensorProto

from normswap.groupnorm.forms.base import FIRST, Form, Preference

if TYPE_CHECKING:
    from normswap.groupnorm.builder import LayerBuilder
    from normswap.groupnorm.layer import Layer


class Native(Form):
    """``GroupNormalization``."""

    name = "native"
    summary = "one GroupNormalization node"
    operator = "GroupNormalization"
    opset = 21

    def limit(self, layer: Layer, provider: str) -> str | None:
        """Say which, see :class:`normswap.groupnorm.forms.base.Form`."""
        return "GroupNormalization needs at least one spatial axis" if layer.rank == 2 else None

    def is_precise(self, provider: str) -> bool:
        """Whether the provider has a kernel of its own, and does not expand the node."""
        return provider not in ("cpu", "cuda")

    def preference(self, layer: Layer, provider: str, threads: int) -> Preference | None:
        """Say where; TensorRT fails on the node."""
        if provider in ("cpu", "cuda", "tensorrt"):
            return None
        return Preference(FIRST, "one node that a compiler can recognise")

    def build(self, builder: LayerBuilder) -> None:
        """Make the node."""
        layer = builder.layer
        inputs = [
            builder.x,
            builder.vector(layer.scale, 1.0, layer.data_type, "scale"),
            builder.vector(layer.bias, 0.0, layer.data_type, "bias"),
        ]
        attributes: dict[str, Any] = {}
        if layer.data_type == TensorProto.DOUBLE:
            attributes["stash_type"] = int(TensorProto.DOUBLE)
        y = builder.op(
            "GroupNormalization",
            inputs,
            "groupnorm",
            epsilon=layer.epsilon,
            num_groups=layer.num_groups,
            **attributes,
        )
        builder.finish(y)


FORM = Native()

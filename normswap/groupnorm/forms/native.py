"""One GroupNormalization node.

Source: ONNX operator GroupNormalization, opset 21. (That of opset 18 has its scale per group and is
deprecated.) The node is the most readable form, and what compilers recognise; onnxruntime has no
kernel for it on CPU and expands it into its definition, with the variance as
``E[x^2] - E[x]^2``, which cancels where the mean is large.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from normswap.groupnorm.builder import Builder
from normswap.groupnorm.layer import Layer, Parameter


class Native:
    """``GroupNormalization``."""

    name = "native"

    def obstacle(self, layer: Layer, provider: str) -> str | None:
        """Say why not; see :class:`normswap.groupnorm.forms.base.Form`."""
        del provider
        if layer.opset < 21:
            return f"GroupNormalization needs opset 21, the model has {layer.opset}"
        if layer.rank == 2:
            return "GroupNormalization needs at least one spatial axis"
        return None

    def build(self, builder: Builder) -> None:
        """Make the node."""
        layer = builder.layer
        inputs = [layer.x, self._vector(builder, layer.scale, 1.0, "scale")]
        inputs.append(self._vector(builder, layer.bias, 0.0, "bias"))
        attributes = {}
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

    @staticmethod
    def _vector(builder: Builder, value: Parameter, neutral: float, what: str) -> object:
        layer = builder.layer
        if value is not None and not isinstance(value, np.ndarray):
            return value
        shared = value is None
        values = np.full(layer.channels, neutral) if value is None else value
        return builder.typed(values, layer.data_type, what, shared=shared)


FORM = Native()

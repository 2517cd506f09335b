"""Reshape, LayerNormalization over the elements of a group, Reshape, the affine.

Source: ONNX operator LayerNormalization, opset 17. Its scale must be given. onnxruntime runs one
of the full size of a group fast and one that it has to broadcast slowly, so ones of the full size
are made, by a ConstantOfShape that costs no room in the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from normswap.model import ArrayTensor, make_constant

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from normswap.groupnorm.builder import Builder
    from normswap.groupnorm.layer import Layer


class LayerNorm:
    """``LayerNormalization`` of the groups."""

    name = "layernorm"
    fuses_activation = False

    def obstacle(self, layer: Layer, provider: str) -> str | None:
        """Say why not; see :class:`normswap.groupnorm.forms.base.Form`."""
        del provider
        if layer.opset < 17:
            return f"LayerNormalization needs opset 17, the model has {layer.opset}"
        return None

    def build(self, builder: Builder) -> None:
        """Make the nodes."""
        layer = builder.layer
        x = builder.input()
        if layer.num_groups > 1:
            y = self._normalize(builder, builder.grouped(x), 2)
            builder.output(builder.affine(builder.ungrouped(y), layer.scale, layer.bias))
        elif layer.rank == 2:  # the operator's affine is along the one axis that there is
            size = [layer.channels]
            scale = np.ones(layer.channels) if layer.scale is None else layer.scale
            inputs = [x, builder.parameter(scale, size, "scale")]
            if layer.bias is not None:
                inputs.append(builder.parameter(layer.bias, size, "bias"))
            builder.output(self._node(builder, inputs, 1))
        else:
            y = self._normalize(builder, x, 1)
            builder.output(builder.affine(y, layer.scale, layer.bias))

    @classmethod
    def _normalize(cls, builder: Builder, x: gs.Tensor, axis: int) -> gs.Tensor:
        return cls._node(builder, [x, cls._ones(builder, x, axis)], axis)

    @staticmethod
    def _node(builder: Builder, inputs: list[gs.Tensor], axis: int) -> gs.Tensor:
        return builder.op(
            "LayerNormalization", inputs, "normalized", axis=axis, epsilon=builder.layer.epsilon
        )

    @staticmethod
    def _ones(builder: Builder, x: gs.Tensor, axis: int) -> gs.Tensor:
        layer = builder.layer
        shape: gs.Tensor
        if layer.group_elements is not None and layer.shape is not None:
            sizes = [layer.group_elements]
            if axis == 1:
                sizes = [layer.channels, *(dim for dim in layer.shape[2:] if isinstance(dim, int))]
            shape = builder.integers(sizes, "normalized_shape")
        else:
            shape = builder.op("Shape", [x], "normalized_shape", start=axis)
        double = layer.compute_type == TensorProto.DOUBLE
        one = ArrayTensor(np.ones(1, np.float64 if double else np.float32))
        return builder.op("ConstantOfShape", [shape], "ones", value=make_constant("ones", one))


FORM = LayerNorm()

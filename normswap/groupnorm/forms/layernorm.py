"""Reshape, LayerNormalization over the elements of a group, Reshape, the affine.

Source: ONNX operator LayerNormalization, opset 17. Its scale must be given. onnxruntime runs one
of the full size of a group fast and one that it has to broadcast slowly, so ones of the full size
are made, by a ConstantOfShape that costs no room in the file.

Versions of onnxruntime before 1.27 square before they subtract the mean, on a CPU: they lose all
precision where the mean is large, and give NaN where a group is constant.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from normswap.groupnorm.cpu import LayerWork
from normswap.groupnorm.cuda import has_few_long_rows
from normswap.groupnorm.forms.base import FIRST, SECOND, Form, Preference
from normswap.model import ArrayTensor, make_constant
from normswap.runtime.diagnosis import installed

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from normswap.groupnorm.builder import LayerBuilder
    from normswap.groupnorm.layer import Layer

CENTRED = (1, 27)
"""The onnxruntime from which on a LayerNormalization on a CPU subtracts the mean first."""


@functools.cache
def is_precise_on_cpu() -> bool:
    """Whether the onnxruntime here, if there is one, computes a LayerNormalization well."""
    versions = [re.findall(r"\d+", version)[:2] for version in installed().values()]
    return all(tuple(map(int, version)) >= CENTRED for version in versions)


class LayerNorm(Form):
    """``LayerNormalization`` of the groups."""

    name = "layernorm"
    summary = "LayerNormalization between two Reshapes"
    operator = "LayerNormalization"
    opset = 17

    def limit(self, layer: Layer, provider: str) -> str | None:
        """Say which, see :class:`normswap.groupnorm.forms.base.Form`."""
        if provider == "cuda" and layer.data_type == TensorProto.DOUBLE:
            return "onnxruntime's LayerNormalization on CUDA computes float64 in float32"
        return None

    def is_precise(self, provider: str) -> bool:
        """Whether the mean is subtracted first."""
        return provider != "cpu" or is_precise_on_cpu()

    def preference(self, layer: Layer, provider: str, threads: int) -> Preference | None:
        """Prefer it where threads can share its rows, most of all between convolutions."""
        if provider == "cuda":
            rank = SECOND if has_few_long_rows(layer) else FIRST
            return Preference(rank, "the fastest precise form on CUDA")
        if provider != "cpu":
            return None
        work = LayerWork.of(layer, threads)
        rank = FIRST if layer.before_convolution else SECOND
        return Preference(rank, work.why) if work.pays_to_share_rows else None

    def build(self, builder: LayerBuilder) -> None:
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
    def _normalize(cls, builder: LayerBuilder, x: gs.Tensor, axis: int) -> gs.Tensor:
        return cls._node(builder, [x, cls._ones(builder, x, axis)], axis)

    @staticmethod
    def _node(builder: LayerBuilder, inputs: list[gs.Tensor], axis: int) -> gs.Tensor:
        return builder.op(
            "LayerNormalization", inputs, "normalized", axis=axis, epsilon=builder.layer.epsilon
        )

    @staticmethod
    def _ones(builder: LayerBuilder, x: gs.Tensor, axis: int) -> gs.Tensor:
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

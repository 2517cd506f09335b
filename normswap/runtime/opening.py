"""Copies of models that take inputs of every size where the file says -1 or 0.

Exporters write these where they mean any size. onnxruntime takes -1 for that, and refuses whatever
isn't empty where it reads 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def open_sizes(model: onnx.ModelProto) -> None:
    """Leave sizes of 0 and below open, in place; those noted of tensors between, too."""
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        for info in (*graph.input, *graph.output, *graph.value_info):
            for dim in info.type.tensor_type.shape.dim:
                if dim.HasField("dim_value") and dim.dim_value <= 0:
                    dim.ClearField("dim_value")
        for node in graph.node:
            for attribute in node.attribute:
                graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]

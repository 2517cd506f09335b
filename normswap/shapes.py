"""Types and shapes of a model's tensors, as far as ONNX can infer them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import onnx

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from normswap.model import Model

Dim = int | str | None
"""A static size, the name of a symbolic one, or None where unknown."""


class TensorType(NamedTuple):
    """Element type (``TensorProto.DataType``) and shape of a tensor, None where unknown."""

    data_type: int | None
    shape: tuple[Dim, ...] | None


def infer_types(model: Model) -> dict[str, dict[str, TensorType]]:
    """Infer the types of all tensors.

    The inference runs on the model without its weights, so its cost is that of the graph. Where it
    fails, what the model itself declares is all that is known.

    Returns
    -------
    dict
        By key of the graph (:func:`subgraph_key`, :func:`function_key`; ``""`` is the main graph),
        then by name of the tensor.
    """
    proto = model.skeleton
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        proto = model.skeleton
    types: dict[str, dict[str, TensorType]] = {}
    for key, graph in _graphs(proto.graph, ""):
        types[key] = _declared([*graph.value_info, *graph.input, *graph.output])
    for number, function in enumerate(proto.functions):
        key = function_key(number)
        types[key] = _declared(function.value_info)
        for inner, graph in _subgraphs(function.node, key):
            types[inner] = _declared([*graph.value_info, *graph.input, *graph.output])
    return types


def subgraph_key(outer: str, node_index: int, attribute: str) -> str:
    """Identify the subgraph in an attribute of a node of the graph ``outer``."""
    return f"{outer}/{node_index}.{attribute}"


def function_key(number: int) -> str:
    """Identify the body of a model-local function by its place in the model."""
    return f"function {number}"


def _graphs(graph: onnx.GraphProto, key: str) -> Iterator[tuple[str, onnx.GraphProto]]:
    yield key, graph
    yield from _subgraphs(graph.node, key)


def _subgraphs(
    nodes: Iterable[onnx.NodeProto], outer: str
) -> Iterator[tuple[str, onnx.GraphProto]]:
    for index, node in enumerate(nodes):
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g, subgraph_key(outer, index, attribute.name))


def _declared(infos: Iterable[onnx.ValueInfoProto]) -> dict[str, TensorType]:
    types: dict[str, TensorType] = {}
    for info in infos:
        if not info.type.HasField("tensor_type"):
            continue
        tensor = info.type.tensor_type
        shape: tuple[Dim, ...] | None = None
        if tensor.HasField("shape"):
            shape = tuple(
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
                for dim in tensor.shape.dim
            )
        types[info.name] = TensorType(tensor.elem_type or None, shape)
    return types

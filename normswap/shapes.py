"""Types and shapes of a model's tensors, as far as ONNX can infer them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from normswap.model import Model, TensorSource

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


LARGEST_KNOWN = 64
"""Elements of an integer constant whose values are told to the inference, such as a shape."""


def infer_call_types(
    model: Model,
    number: int,
    arguments: Sequence[TensorType],
    constants: Mapping[int, TensorSource],
    attributes: Mapping[str, Any],
    opset: int,
) -> dict[str, dict[str, TensorType]]:
    """Infer the types of all tensors in the body of a function, for one call of it.

    Parameters
    ----------
    model : Model
    number : int
        Place of the function in the model.
    arguments : sequence of TensorType
        What it is called with.
    constants : mapping of int to TensorSource
        Those arguments that are constant.
    attributes : mapping of str to object
        Of the call; those that are no numbers or text are not known to the inference.
    opset : int
        Of the default domain, where the function does not say.

    Returns
    -------
    dict
        As from :func:`infer_types`; the body has the key :func:`function_key`.
    """
    function = model.skeleton.functions[number]
    graph = onnx.GraphProto(name="body")
    graph.node.extend(function.node)
    simple = (int, float, str, list)
    _resolve(
        graph.node,
        {item.name: item for item in function.attribute_proto}
        | {
            name: onnx.helper.make_attribute(name, value)
            for name, value in attributes.items()
            if isinstance(value, simple) and value != []
        },
    )
    for index, (name, known) in enumerate(zip(function.input, arguments, strict=False)):
        graph.input.append(_info(name, known))
        source = constants.get(index)
        if (
            source is not None
            and source.data_type == onnx.TensorProto.INT64
            and math.prod(source.shape) <= LARGEST_KNOWN
        ):
            graph.initializer.append(onnx.numpy_helper.from_array(source.load(), name))
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in function.output)
    proto = onnx.ModelProto(ir_version=model.ir_version, graph=graph)
    proto.functions.extend(model.skeleton.functions)
    imports = {item.domain: item.version for item in model.skeleton.opset_import}
    imports |= {item.domain: item.version for item in function.opset_import}
    imports.setdefault("", opset)
    proto.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in imports.items())
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return {}
    key = function_key(number)
    return {
        key + inner: _declared([*graph.value_info, *graph.input, *graph.output])
        for inner, graph in _graphs(proto.graph, "")
    }


def _resolve(nodes: Iterable[onnx.NodeProto], attributes: Mapping[str, Any]) -> None:
    """Give attributes that refer to a parameter of the function its value, or take them out."""
    for node in nodes:
        kept = []
        for item in node.attribute:
            if item.ref_attr_name:
                value = attributes.get(item.ref_attr_name)
                if value is None:
                    continue
                resolved = onnx.AttributeProto()
                resolved.CopyFrom(value)
                resolved.name = item.name
                kept.append(resolved)
            else:
                if item.type == onnx.AttributeProto.GRAPH:
                    _resolve(item.g.node, attributes)
                kept.append(item)
        if len(kept) != len(node.attribute) or any(item.ref_attr_name for item in node.attribute):
            copied = [onnx.AttributeProto.FromString(item.SerializeToString()) for item in kept]
            del node.attribute[:]
            node.attribute.extend(copied)


def _info(name: str, known: TensorType) -> onnx.ValueInfoProto:
    if known.data_type is None:
        return onnx.helper.make_empty_tensor_value_info(name)
    return onnx.helper.make_tensor_value_info(name, known.data_type, known.shape)


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

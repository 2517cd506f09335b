"""Types and shapes of a model's tensors, as far as ONNX can infer them."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx

from normswap.folding.evaluate import EVALUABLE

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
    proto = _with_computed_constants(model.skeleton)
    failures = (onnx.shape_inference.InferenceError, ValueError, RuntimeError)
    with contextlib.suppress(*failures):  # then what is declared is all that is known
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
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


LARGEST_COMPUTED = 64
"""Elements of an integer constant that is computed for the inference at most."""


def _with_computed_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with integers computed from constants as initializers.

    Exporters that do not fold constants leave the bounds of a Slice to nodes (an Unsqueeze of a
    scalar, a Concat), and ONNX's inference knows no shape behind it.
    """
    overridable = {info.name for info in model.graph.input} if model.ir_version >= 4 else set()
    known = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type in _INTEGERS
        and math.prod(tensor.dims) <= LARGEST_COMPUTED
        and tensor.name not in overridable
    }
    given = set(known)
    chosen: list[onnx.NodeProto] = []
    computed = 0
    for node in model.graph.node:
        if node.op_type == "Constant" and not node.domain:
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if (
                value is None
                or value.data_type not in _INTEGERS
                or math.prod(value.dims) > LARGEST_COMPUTED
            ):
                continue
        elif (
            node.domain
            or node.op_type not in EVALUABLE
            or not node.input
            or not all(not name or name in known for name in node.input)
        ):
            continue
        else:
            computed += 1
        chosen.append(node)
        known.update(dict.fromkeys(node.output))
    if not computed:
        return model
    values = _evaluated(model, chosen, [known[name] for name in given])
    if values is None:
        return model
    names = {name for node in chosen for name in node.output}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [node for node in copy.graph.node if names.isdisjoint(node.output)]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    copy.graph.initializer.extend(values)
    return copy


_INTEGERS = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32})


def _evaluated(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]
) -> list[onnx.TensorProto] | None:
    """Compute the outputs of nodes; None where the reference implementation can't."""
    from onnx.reference import ReferenceEvaluator

    names = [name for node in nodes for name in node.output if name]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in names]
    graph = onnx.helper.make_graph(nodes, "constants", [], outputs, constants)
    part = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    try:
        results = ReferenceEvaluator(part).run(None, {})
    except Exception:  # noqa: BLE001 - the evaluator raises anything; then less is known
        return None
    return [
        onnx.numpy_helper.from_array(np.asarray(result), name)
        for name, result in zip(names, results, strict=True)
    ]


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

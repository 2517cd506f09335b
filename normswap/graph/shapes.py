"""Types and shapes of a model's tensors, as far as ONNX can infer them and runtimes make them."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from normswap.bodies import bodies
from normswap.graph.evaluate import EVALUABLE
from normswap.graph.inference import infer_shapes
from normswap.graph.sequences import split_sequences
from normswap.graph.sizes import DOUBT, Dim, TensorType
from normswap.graph.trust import Doubtless, declared, is_at_hand
from normswap.semantics.constants import evaluate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from normswap.model import Model, TensorSource

__all__ = ["Dim", "TensorType", "function_key", "infer_call_types", "infer_types", "subgraph_key"]


Types = dict[str, dict[str, TensorType]]
"""By key of the graph (:func:`subgraph_key`, :func:`function_key`; ``""`` is the main graph), then
by name of the tensor."""


def infer_types(model: Model, facts: Mapping[str, Mapping[str, TensorType]] | None = None) -> Types:
    """Infer the types of all tensors.

    The inference runs on the model without its weights, so its cost is that of the graph. Where it
    fails, what the inputs of the model declare is all that is known. Sizes are those that hold in
    every runtime: see :mod:`normswap.graph.trust`.

    Parameters
    ----------
    facts : mapping, optional
        Types that are known for certain and that ONNX could not infer, of the main graph and its
        bodies; others follow from them.
    """
    graph = model.proto.graph
    types = _known(graph, _with_computed_constants(model.proto), "", facts or {})
    for number, function in enumerate(model.proto.functions):
        # What is noted there may hold for one call and not for another; ranks are the same.
        key = function_key(number)
        types[key] = {
            name: TensorType(known.data_type, known.shape and (None,) * len(known.shape))
            for name, known in declared(function.value_info)
        }
        for index, node in enumerate(function.node):
            for inner, body in _subgraphs(index, node, node, key):
                types[inner] = {
                    name: TensorType(known.data_type, known.shape and (None,) * len(known.shape))
                    for name, known in _types(body).items()
                }
    return types


def _known(
    graph: onnx.GraphProto,
    model: onnx.ModelProto,
    key: str,
    facts: Mapping[str, Mapping[str, TensorType]],
) -> dict[str, dict[str, TensorType]]:
    """Return what is known of the tensors of a graph.

    Parameters
    ----------
    graph : onnx.GraphProto
        As it is in the file.
    model : onnx.ModelProto
        With this graph, or one that computes the same.
    key : str
        Of the graph.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _modernize(copy)
    prepared = Doubtless(copy)
    if facts:
        for inner, found in _graphs(graph, copy.graph, key):
            _tell(found, facts.get(inner, {}))
    first = _by_onnx(copy)
    if not prepared.resolve(first):
        return {inner: _types(found) for inner, found in _graphs(graph, first.graph, key)}
    believed = dict(_graphs(graph, _by_onnx(copy).graph, key))
    return {
        inner: {
            name: _with_doubts(known, naive.get(name))
            for name, known in _types(believed[inner]).items()
        }
        for inner, naive in (
            (inner, _types(found)) for inner, found in _graphs(graph, first.graph, key)
        )
    }


def _modernize(model: onnx.ModelProto) -> None:
    """Take a model's constants off the list of its inputs, where all had to be on it.

    Up to IR version 3 the inference overlooks one that is not listed, such as a computed one.
    """
    if model.ir_version < 4:
        model.ir_version = 4
        constant = {tensor.name for tensor in model.graph.initializer}
        inputs = [info for info in model.graph.input if info.name not in constant]
        del model.graph.input[:]
        model.graph.input.extend(inputs)


def _tell(graph: onnx.GraphProto, facts: Mapping[str, TensorType]) -> None:
    """Tell the inference of types, in the place of what it was told of the same tensors."""
    told = {info.name: info for info in (*graph.value_info, *graph.output)}
    for name, known in facts.items():
        if name not in told:
            told[name] = graph.value_info.add()
        told[name].CopyFrom(_info(name, known))


def _with_doubts(known: TensorType, naive: TensorType | None) -> TensorType:
    """Name the sizes that ONNX takes for numbers, but that are not known."""
    if known.shape is None or naive is None or naive.shape is None:
        return known
    if len(known.shape) != len(naive.shape):
        return known
    shape = tuple(
        f"{DOUBT}{size or ''}" if isinstance(number, int) and not isinstance(size, int) else size
        for size, number in zip(known.shape, naive.shape, strict=True)
    )
    return TensorType(known.data_type, shape)


def _by_onnx(model: onnx.ModelProto) -> onnx.ModelProto:
    failures = (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        DecodeError,
        ValueError,
        RuntimeError,
    )
    with contextlib.suppress(*failures):  # then what is declared is all that is known
        model = infer_shapes(model)
    return model


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
    function = model.proto.functions[number]
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
    proto.functions.extend(model.proto.functions)
    imports = {item.domain: item.version for item in model.proto.opset_import}
    imports |= {item.domain: item.version for item in function.opset_import}
    imports.setdefault("", opset)
    proto.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in imports.items())
    return _known(proto.graph, proto, function_key(number), {})


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
    known: dict[str, npt.NDArray[Any]] = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if _is_small_integer(tensor) and tensor.name not in overridable
    }
    opsets = {item.domain: item.version for item in model.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx", 1))
    computed: set[str] = set()
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type == "Constant":
            for item in node.attribute:
                if item.name == "value" and _is_small_integer(item.t):
                    known[node.output[0]] = onnx.numpy_helper.to_array(item.t)
                elif item.name in ("value_int", "value_ints"):
                    value = onnx.helper.get_attribute_value(item)
                    known[node.output[0]] = np.asarray(value, np.int64)
        elif node.op_type in EVALUABLE and node.input:
            if not all(not name or name in known for name in node.input):
                continue
            results = _evaluated(node, opset, [known.get(name) for name in node.input])
            if results is not None:
                named = {name: r for name, r in zip(node.output, results, strict=False) if name}
                known.update(named)
                computed.update(named)
    sequences = any(node.op_type == "SplitToSequence" for node in model.graph.node)
    if not computed and not sequences:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [node for node in copy.graph.node if computed.isdisjoint(node.output)]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    values = (onnx.numpy_helper.from_array(known[name], name) for name in sorted(computed))
    copy.graph.initializer.extend(values)
    if sequences:
        split_sequences(copy.graph, known, opset)
    return copy


_INTEGERS = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32})


def _is_small_integer(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in _INTEGERS and is_at_hand(tensor)


_GROWING = frozenset({"ConstantOfShape", "Expand", "Pad", "Range", "Tile"})
"""Operators that make much of little, by the values of their inputs."""


def _evaluated(
    node: onnx.NodeProto, opset: int, inputs: list[npt.NDArray[Any] | None]
) -> list[npt.NDArray[Any]] | None:
    """Compute the outputs of a node; None where they are not known, or large."""
    if node.op_type in _GROWING:
        factors = [abs(int(v)) for value in inputs if value is not None for v in value.reshape(-1)]
        if math.prod(max(factor, 1) for factor in factors) > LARGEST_COMPUTED:
            return None
    if any(item.ref_attr_name for item in node.attribute):
        return None
    attributes = {
        item.name: onnx.numpy_helper.to_array(item.t)
        if item.type == onnx.AttributeProto.TENSOR
        else onnx.helper.get_attribute_value(item)
        for item in node.attribute
    }
    results = evaluate(node.op_type, "", opset, inputs, attributes, len(node.output))
    if results is None or sum(result.size for result in results) > LARGEST_COMPUTED:
        return None
    return results


def subgraph_key(outer: str, node_index: int, attribute: str) -> str:
    """Identify the subgraph in an attribute of a node of the graph ``outer``."""
    return f"{outer}/{node_index}.{attribute}"


def function_key(number: int) -> str:
    """Identify the body of a model-local function by its place in the model."""
    return f"function {number}"


def _graphs(
    graph: onnx.GraphProto, found: onnx.GraphProto, key: str
) -> Iterator[tuple[str, onnx.GraphProto]]:
    """Yield a graph and its bodies as they were found, by the keys that they have in the model.

    What was prepared for the inference has other nodes between, but none of those with bodies.
    """
    yield key, found
    twins = (node for node in found.node if bodies(node))
    for index, node in enumerate(graph.node):
        if bodies(node):
            yield from _subgraphs(index, node, next(twins), key)


def _subgraphs(
    index: int, node: onnx.NodeProto, found: onnx.NodeProto, outer: str
) -> Iterator[tuple[str, onnx.GraphProto]]:
    for attribute, twin in zip(node.attribute, found.attribute, strict=True):
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield from _graphs(attribute.g, twin.g, subgraph_key(outer, index, attribute.name))


def _types(graph: onnx.GraphProto) -> dict[str, TensorType]:
    return dict(declared((*graph.value_info, *graph.input, *graph.output)))

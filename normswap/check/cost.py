"""How much work a model is, from its graph alone, and how to make it less."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import onnx
import onnx.inliner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from normswap.check.signature import Signature

_SMALL = 256  # elements; larger tensors hold weights, whose values no shape depends on
_LEAST_SIDE = 16
_Shape = tuple[int, ...]


def skeleton(model: Any) -> bytes:
    """Return the graph of `model` without its weights, for shape inference at any time.

    Parameters
    ----------
    model : onnx.ModelProto
    """
    bare = onnx.ModelProto()
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    bare.ir_version = model.ir_version
    graph = bare.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    given = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL and not tensor.external_data:
            graph.initializer.append(tensor)
        elif tensor.name not in given:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    if bare.functions:
        # Of a function that can't be inlined it isn't known what it does with its inputs.
        with contextlib.suppress(RuntimeError, ValueError):
            bare = onnx.inliner.inline_local_functions(bare)
    content: bytes = bare.SerializeToString()
    return content


def inferred(content: bytes, shapes: Mapping[str, _Shape]) -> tuple[Any, dict[str, _Shape]] | None:
    """Return a model's graph, and the shapes of its values on inputs of certain shapes.

    Parameters
    ----------
    content : bytes
        A `skeleton`.
    shapes : Mapping of str to tuple of int
        Shapes of the inputs.

    Returns
    -------
    (onnx.GraphProto, dict of str to tuple of int) or None
        A size that is unknown is 0. None where shape inference does not get through.
    """
    model = onnx.load_from_string(content)
    for value in model.graph.input:
        if value.name in shapes:
            tensor = value.type.tensor_type
            del tensor.shape.dim[:]
            for size in shapes[value.name]:
                tensor.shape.dim.add().dim_value = size
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return None
    known: dict[str, _Shape] = {t.name: tuple(t.dims) for t in model.graph.initializer}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        if value.type.tensor_type.HasField("shape"):
            known[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return model.graph, known


def multiply_adds(content: bytes, shapes: Mapping[str, _Shape]) -> int | None:
    """Return the multiply-adds of a model's convolutions and matrix products.

    Parameters
    ----------
    content : bytes
        A `skeleton`.
    shapes : Mapping of str to tuple of int
        Shapes of the inputs.

    Returns
    -------
    int or None
        None where shape inference does not get through.
    """
    found = inferred(content, shapes)
    if found is None:
        return None
    graph, known = found
    total = 0
    for node in graph.node:
        work = _work(node, known)
        if work is None:
            return None
        total += work
    return total


def _work(node: Any, known: Mapping[str, _Shape]) -> int | None:
    """Return the multiply-adds of a node; None where a size is unknown."""
    if node.op_type not in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
        return 0
    left, right = known.get(node.input[0], ()), known.get(node.input[1], ())
    out = known.get(node.output[0], ())
    if not left or not right or not out or 0 in {*left, *right, *out}:
        return None
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(right[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    inner = math.prod(right) // max(right[-1], 1) if len(right) == 2 else right[-2:][0]
    return math.prod(out) * inner


def smaller(
    signature: Signature, shapes: Mapping[str, _Shape], budget: int
) -> Iterator[dict[str, _Shape]]:
    """Yield shapes that make the model cheap enough, the cheapest first, and none if they are.

    Only the spatial axes of images and volumes shrink; whether the model takes the smaller ones
    is seen when it is evaluated.
    """
    work = multiply_adds(signature.skeleton, shapes)
    images = {
        port.name
        for port in signature.inputs
        if port.name in shapes and len(shapes[port.name]) in {4, 5} and port.dtype != "string"
    }
    if work is None or work <= budget or not images:
        return
    sizes = []
    for divisor in (2, 4, 8):
        candidate = {
            name: _divided(shape, divisor) if name in images else shape
            for name, shape in shapes.items()
        }
        sizes.append(candidate)
        if work / divisor**2 <= budget:
            break
    yield from reversed(sizes)


def _divided(shape: _Shape, divisor: int) -> _Shape:
    """Return a shape with smaller spatial axes, each a multiple of 16 where it was."""
    spatial = []
    for size in shape[2:]:
        less = max(size // divisor, min(size, _LEAST_SIDE))
        rounded = -(-less // 16) * 16 if size % 16 == 0 else less
        spatial.append(min(size, rounded))
    return (*shape[:2], *spatial)

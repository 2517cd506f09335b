"""What an input is for, read from the nodes it feeds.

An int64 input may be a row number of an embedding, a mask, a length or a plain number; random
numbers of the wrong sort end in an error of the runtime, or in a comparison of nothing. The
graph says which it is: the walk starts at the input, passes through what leaves its values
alone, and stops at the first operator that gives them a meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnx import numpy_helper

# Operators that hand their first input's values on, perhaps in another shape or type.
_TRANSPARENT = frozenset(
    {
        "Cast",
        "Concat",
        "Expand",
        "Flatten",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
_INDEXERS = frozenset({"Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"})
_SHAPE_SLOTS = {
    ("Reshape", 1),
    ("Expand", 1),
    ("ConstantOfShape", 0),
    ("Tile", 1),
    ("Slice", 1),
    ("Slice", 2),
    ("Resize", 3),
    ("Range", 0),
    ("Range", 1),
    ("TopK", 1),
}
_DEPTH = 12  # nodes between an input and what gives it a meaning


@dataclass(frozen=True, slots=True)
class Semantics:
    """What is known of the values and sizes that an input may have.

    Attributes
    ----------
    index_limit : int or None
        The values index an axis of this size, so they lie in ``[0, index_limit)``.
    is_shape : bool
        The values are sizes or positions; only small positive ones are safe.
    is_length : bool
        The values are lengths of sequences.
    sizes : dict of int to int
        Sizes that the consumers' weights demand, by axis.
    is_image : bool
        A two-dimensional convolution reads it.
    """

    index_limit: int | None = None
    is_shape: bool = False
    is_length: bool = False
    sizes: dict[int, int] | None = None
    is_image: bool = False


def input_semantics(graph: Any, names: list[str]) -> dict[str, Semantics]:
    """Return what each of the graph's inputs `names` is for.

    Parameters
    ----------
    graph : onnx.GraphProto
        Read without external data; only shapes of weights are looked at.
    names : list of str
    """
    readers: dict[str, list[tuple[Any, int]]] = {}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input):
        tensor = value.type.tensor_type
        dims = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
        shapes.setdefault(value.name, dims)
    scalars = {}
    for tensor in graph.initializer:
        if not tensor.dims and not tensor.external_data:
            scalars[tensor.name] = tensor
    for node in graph.node:
        for slot, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, slot))
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    shapes[node.output[0]] = tuple(attribute.t.dims)
                    if not attribute.t.dims:
                        scalars[node.output[0]] = attribute.t
    return {name: _walk(name, readers, shapes, scalars) for name in names}


def _walk(
    start: str,
    readers: dict[str, list[tuple[Any, int]]],
    shapes: dict[str, tuple[int, ...]],
    scalars: dict[str, Any],
) -> Semantics:
    limits: list[int] = []
    sizes: dict[int, int] = {}
    is_shape = is_length = is_image = False
    frontier = [(start, 0)]
    seen = {start}
    while frontier:
        name, distance = frontier.pop()
        for node, slot in readers.get(name, ()):
            kind = node.op_type
            if kind in _INDEXERS and slot == 1:
                limits.append(_indexed_size(node, shapes))
            elif kind == "OneHot" and slot == 0 and node.input[1] in scalars:
                limits.append(int(numpy_helper.to_array(scalars[node.input[1]]).reshape(())))
            elif (kind, slot) in _SHAPE_SLOTS:
                is_shape = True
            elif kind in {"RNN", "GRU", "LSTM", "ReverseSequence"} and slot in {1, 4}:
                is_length = is_length or (kind == "ReverseSequence") == (slot == 1)
            if distance == 0 and slot == 0:
                sizes.update(_demanded(node, shapes))
                is_image = is_image or (kind == "Conv" and len(shapes.get(node.input[1], ())) == 4)
            if ((kind in _TRANSPARENT and slot == 0) or kind == "Concat") and distance < _DEPTH:
                for output in node.output:
                    if output and output not in seen:
                        seen.add(output)
                        frontier.append((output, distance + 1))
    return Semantics(
        index_limit=min(limits) if limits else None,
        is_shape=is_shape,
        is_length=is_length,
        sizes=sizes or None,
        is_image=is_image,
    )


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _indexed_size(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    """Return the size of the axis that `node` indexes; 1, where only 0 is safe, if unknown."""
    shape = shapes.get(node.input[0], ())
    axis = 0 if node.op_type.endswith("ND") else _attribute(node, "axis", 0)
    if not -len(shape) <= axis < len(shape):
        return 1
    return max(shape[axis], 1)


def _demanded(node: Any, shapes: dict[str, tuple[int, ...]]) -> dict[int, int]:
    """Return the sizes, by axis, that the weights of `node` demand of its first input."""
    weight = shapes.get(node.input[1]) if len(node.input) > 1 else None
    if not weight:
        return {}
    if node.op_type == "Conv":
        return {1: weight[1] * _attribute(node, "group", 1)}
    if node.op_type in {"ConvTranspose", "BatchNormalization", "InstanceNormalization"}:
        return {1: weight[0]}
    if node.op_type == "Gemm":
        size = weight[1] if _attribute(node, "transB", 0) else weight[0]
        return {0 if _attribute(node, "transA", 0) else 1: size}
    if node.op_type == "MatMul" and len(weight) >= 2:
        return {-1: weight[-2]}
    if node.op_type in {"RNN", "GRU", "LSTM"} and len(weight) == 3:
        return {2: weight[2]}
    return {}

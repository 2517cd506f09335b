"""What an input is for, read from the nodes it feeds.

An int64 input may be a row number of an embedding, an axis, a size, a divisor, a length or a plain
number; random numbers of the wrong sort end in an error of the runtime, or in a comparison of
nothing. The graph says which it is: the walk starts at the input, passes through what leaves its
values alone, into subgraphs too, and stops at the operators that give them a meaning. Which
values these allow is for `normswap.inputs.roles` to say, once all sizes are known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx

from normswap.inputs.demands import Demands, demands
from normswap.semantics.families import PICKS, RESHAPES

if TYPE_CHECKING:
    from collections.abc import Iterator

# Operators that hand their first input's elements on, all of them and in their order.
_KEEPING = RESHAPES | {"Cast", "CastLike", "Identity", "Optional", "OptionalGetElement"}
_DEPTH = 12  # nodes between an input and what gives it a meaning


@dataclass(frozen=True, slots=True)
class InputUse:
    """One operator that reads an input, or what became of it.

    Attributes
    ----------
    op_type : str
    slot : int
        Which of the operator's inputs it is.
    whole : bool
        Whether it reads all the elements, in their order.
    inputs, outputs : tuple of str
        The operator's.
    attributes : dict of str to object
        Those that are numbers, strings, lists of them, or tensors (as arrays).
    """

    op_type: str
    slot: int
    whole: bool
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Semantics:
    """What is known of the values and sizes that an input may have.

    Attributes
    ----------
    uses : tuple of InputUse
        The operators that it reaches.
    demands : Demands
        The rank and the sizes that the consumers' weights ask for.
    """

    uses: tuple[InputUse, ...] = ()
    demands: Demands = field(default_factory=Demands)


def input_semantics(graph: Any, names: list[str]) -> dict[str, Semantics]:
    """Return what each of the graph's inputs `names` is for.

    Parameters
    ----------
    graph : onnx.GraphProto
        Its weights may be missing, and are inputs then; only their shapes are looked at.
    names : list of str
    """
    readers: dict[str, list[Reader]] = {}
    for reader in _readers(graph):
        readers.setdefault(reader.name, []).append(reader)
    places = {name: [(edge.node, edge.slot) for edge in edges] for name, edges in readers.items()}
    shapes = _shapes(graph)
    return {name: Semantics(_walk(name, readers), demands(name, places, shapes)) for name in names}


@dataclass(frozen=True, slots=True)
class Reader:
    """An edge of the graph: the value `name` is input `slot` of `node`.

    `passes` are the values that it lives on in; `whole` says whether completely.
    """

    name: str
    node: Any
    slot: int
    passes: tuple[str, ...] = ()
    whole: bool = True


def _readers(graph: Any) -> Iterator[Reader]:
    for node in graph.node:
        bodies = {a.name: a.g for a in node.attribute if a.type == a.GRAPH}
        for slot, name in enumerate(node.input):
            kept = node.op_type in _KEEPING and slot == 0
            picked = (
                (node.op_type in PICKS and slot == 0)
                or node.op_type == "Concat"
                or (node.op_type == "Where" and slot > 0)
            )
            passes = tuple(node.output) if kept or picked else ()
            whole = kept or (node.op_type == "Concat" and len(node.input) == 1)
            if node.op_type == "Loop" and slot >= 2:
                passes, whole = (bodies["body"].input[slot].name,), True
            elif node.op_type == "Scan" and slot < len(bodies["body"].input):
                passes, whole = (bodies["body"].input[slot].name,), False
            yield Reader(name, node, slot, passes, whole)
        for body in bodies.values():
            yield from _readers(body)
            if node.op_type == "If":
                for inner, outer in zip(body.output, node.output, strict=False):
                    yield Reader(inner.name, node, -1, (outer,))


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input):
        dims = value.type.tensor_type.shape.dim
        shapes.setdefault(
            value.name, tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)
        )
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    shapes[node.output[0]] = tuple(attribute.t.dims)
    return shapes


def _walk(start: str, readers: dict[str, list[Reader]]) -> tuple[InputUse, ...]:
    uses: list[InputUse] = []
    frontier = [(start, 0, True)]
    seen = {start}
    while frontier:
        name, distance, whole = frontier.pop()
        for reader in readers.get(name, ()):
            node = reader.node
            if reader.slot >= 0:
                uses.append(_use(node, reader.slot, whole=whole))
            if distance < _DEPTH:
                for output in reader.passes:
                    if output and output not in seen:
                        seen.add(output)
                        frontier.append((output, distance + 1, whole and reader.whole))
    return tuple(uses)


def _use(node: Any, slot: int, *, whole: bool) -> InputUse:
    plain: dict[str, Any] = {}
    for a in node.attribute:
        if a.ref_attr_name:
            continue
        if a.type == a.TENSOR:
            plain[a.name] = onnx.numpy_helper.to_array(a.t)
        elif a.type in {a.INT, a.INTS, a.FLOAT, a.FLOATS, a.STRING, a.STRINGS}:
            plain[a.name] = onnx.helper.get_attribute_value(a)
    return InputUse(node.op_type, slot, whole, tuple(node.input), tuple(node.output), plain)

"""How large a model is: its parameters, and the multiply-adds of one sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from normswap.bodies import bodies
from normswap.graph.build import all_graphs
from normswap.graph.work import OPERANDS, work_of
from normswap.inputs.signature import inferred, structure_of
from normswap.model import source_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from normswap.graph.network import Graph, Network
    from normswap.graph.sizes import Dim
    from normswap.inputs.signature import Port, Shape
    from normswap.model import Model

_INDICES = frozenset(
    {
        onnx.TensorProto.BOOL,
        onnx.TensorProto.INT32,
        onnx.TensorProto.INT64,
        onnx.TensorProto.STRING,
    }
)
"""Types of constants that are shapes, axes and the like, and no parameters."""


@dataclass(frozen=True, slots=True)
class Work:
    """The multiply-adds of Conv, ConvTranspose, Gemm and MatMul, and of what they are quantized.

    Attributes
    ----------
    macs : int or None
        Of all whose sizes are known, for a batch of one where the batch is open; None where there
        is no such operator, or none of them is known.
    counted : int
        Operators that are in it.
    unknown : tuple of str
        Those that are not, since a size is open, or they are in a body that may run any number of
        times.
    """

    macs: int | None
    counted: int
    unknown: tuple[str, ...]


def parameters(model: Model) -> int:
    """Return how many numbers a model has in its constants; shapes and indices are none."""
    import onnx_graphsurgeon as gs

    found: dict[int, int] = {}
    for graph in all_graphs(model):
        for node in graph.nodes:
            held = [t for t in node.inputs if isinstance(t, gs.Constant)]
            sources = [(id(t._values), source_of(t)) for t in held]  # noqa: SLF001 - unloaded
            if node.op == "Constant" and "value" in node.attrs:
                tensor = node.attrs["value"]
                sources.append((id(tensor), source_of(tensor)))
            for key, source in sources:
                if source.data_type not in _INDICES:
                    found[key] = math.prod(source.shape)
    return sum(found.values())


def work_of_model(model: Model, network: Network, inputs: tuple[Port, ...]) -> Work:
    """Count the multiply-adds of one sample.

    Parameters
    ----------
    network : Network
        Of the model: it knows sizes that ONNX's inference does not.
    inputs : tuple of Port
        An open first axis counts as 1.
    """
    shapes = {
        port.name: tuple(
            size if isinstance(size, int) else None if axis else 1
            for axis, size in enumerate(port.shape)
        )
        for port in inputs
        if port.shape is not None
    }
    batches = {port.shape[0] for port in inputs if port.shape}
    found = inferred(structure_of(model.proto), shapes)
    graph, certain = found if found is not None else (model.proto.graph, {})
    known = _known(network.graphs[0], batches)
    known |= {name: shape for name, shape in certain.items() if 0 not in shape}
    counts: list[int] = []
    unknown: list[str] = []
    for node in graph.node:
        count = _count(node, known)
        if count is not None:
            counts.append(count)
        elif node.op_type in OPERANDS:
            unknown.append(_title(node))
        unknown += map(_title, _inside(node))
    return Work(sum(counts) if counts else None, len(counts), tuple(unknown))


def _known(graph: Graph, batches: Container[Dim]) -> dict[str, Shape]:
    """Return the shapes of a graph's tensors that are numbers for a batch of one."""
    values = [value for node in graph.nodes for value in (*node.inputs, *node.outputs)]
    found: dict[str, Shape] = {}
    for value in values:
        if value is None or value.shape is None:
            continue
        first, *rest = value.shape or (1,)
        sizes = [1 if isinstance(first, str) and first in batches else first, *rest]
        shape = tuple(size for size in sizes if isinstance(size, int))
        if value.shape and len(shape) == len(sizes):
            found[value.name] = shape
    return found


def _count(node: Any, known: Mapping[str, Shape]) -> int | None:
    slots = OPERANDS.get(node.op_type)
    if slots is None or len(node.input) <= max(slots):
        return None
    left, right, out = (
        known.get(name) for name in (*(node.input[slot] for slot in slots), node.output[0])
    )
    if not left or not right or out is None or 0 in {*left, *right, *out}:
        return None
    transposed = any(item.name == "transA" and item.i for item in node.attribute)
    return work_of(node.op_type, left, right, out, transposed=transposed)


def _inside(node: Any) -> Iterator[Any]:
    """Yield what would be counted in the bodies of a node."""
    for body in bodies(node):
        for inner in body.node:
            if inner.op_type in OPERANDS:
                yield inner
            yield from _inside(inner)


def _title(node: Any) -> str:
    return f"{node.op_type} {node.name or node.output[0]}"

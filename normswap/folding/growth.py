"""What a fold adds to the file: a constant that several read is stored once for each of them.

A head that takes in a normalization needs a weight of its own, and as long as another one reads the
old weight, both are in the file.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from normswap.folding.plan import Copied
from normswap.graph.expressions import Expression, Leaf
from normswap.model.tensors import dtype_of, nbytes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from normswap.graph.network import Graph, Node, Value
    from normswap.model import TensorSource


def bytes_of(source: TensorSource) -> int:
    """Return what the values of a constant take in a file."""
    dtype = dtype_of(source.data_type)
    return 0 if dtype is None else nbytes_of(dtype, source.shape)


def stored_bytes(value: Value) -> int:
    """Return what the file has for a tensor alone: nothing if no constant."""
    if value.source is None:
        return 0
    node = value.producer
    if node is None or node.op == "Constant":
        return bytes_of(value.source)
    if _is_alive(node):
        return 0
    inputs = [value for value in node.inputs if value is not None]
    return sum(stored_bytes(v) for v in inputs if not any(map(_is_alive, _readers(v))))


def _readers(value: Value) -> Iterator[Node]:
    return (use.node for use in value.readers.values())


def _is_alive(node: Node) -> bool:
    """Whether anyone reads what a node makes."""
    return any(output is not None and output.is_used for output in node.outputs)


def copied(graphs: Iterable[Graph]) -> tuple[Copied, ...]:
    """Return the constants that stand in several places of edited graphs, where there was one."""
    present = {
        value: leaf
        for graph in graphs
        for node in graph.nodes
        for value in node.inputs
        if value is not None and (leaf := _origin(value.source)) is not None
    }
    counts = Counter(id(leaf.source) for leaf in present.values())
    new = {id(leaf.source): leaf for value, leaf in present.items() if value.source is not leaf}
    found = [
        Copied(leaf.name, counts[key], (counts[key] - 1) * bytes_of(leaf.source))
        for key, leaf in new.items()
        if counts[key] > 1
    ]
    return tuple(sorted(found, key=lambda copy: -copy.added_bytes))


def _origin(source: TensorSource | None) -> Leaf | None:
    """Return the constant of the model of which one is another version, of the same size."""
    if isinstance(source, Leaf):
        return source
    if not isinstance(source, Expression):
        return None
    return next((leaf for leaf in source.leaves() if bytes_of(leaf) == bytes_of(source)), None)

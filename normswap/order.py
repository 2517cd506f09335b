"""The order of nodes, and the tensors that they name, of protobuf messages."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

import onnx

from normswap.bodies import bodies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def in_topological_order(nodes: list[Any]) -> list[Any]:
    """Return the nodes as they are if each comes after those it reads from, else sorted stably.

    Raises
    ------
    ValueError
        The nodes form a cycle.
    """
    producer = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    needs = [{producer[name] for name in _read_by_node(node) if name in producer} for node in nodes]
    if all(all(need < i for need in needed) for i, needed in enumerate(needs)):
        return nodes
    readers: list[list[int]] = [[] for _ in nodes]
    for i, needed in enumerate(needs):
        for need in needed:
            readers[need].append(i)
    ready = [i for i, needed in enumerate(needs) if not needed]
    missing = [len(needed) for needed in needs]
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for reader in readers[i]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        node = next(node for node, count in zip(nodes, missing, strict=True) if count)
        raise ValueError(
            f"the nodes form a cycle around {node.op_type} {node.name or node.output[0]}"
        )
    return [nodes[i] for i in order]


def set_nodes(holder: Any, nodes: Iterable[Any]) -> None:
    """Give a graph or function other nodes, its own among them."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del holder.node[:]
    holder.node.extend(copies)


def _read_by_node(node: Any) -> Iterator[str]:
    """Yield the names a node reads, those that its subgraphs capture included."""
    yield from filter(None, node.input)
    for body in bodies(node):
        yield from _captured(body)


class Mentions:
    """The names that a ``GraphProto`` or ``FunctionProto`` of finished nodes has for tensors.

    Attributes
    ----------
    made : set of str
        What nodes make.
    read : set of str
        What nodes and outputs read, that what subgraphs capture included.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.made = {name for node in graph.node for name in node.output}
        self.read = {name for node in graph.node for name in _read_by_node(node)}
        self.read |= set(map(_name_of, graph.output))

    def given(self) -> set[str]:
        """Return the names of inputs and initializers, as they are by now."""
        if isinstance(self.graph, onnx.FunctionProto):
            return set(self.graph.input)
        stored = {item.name for item in self.graph.initializer}
        sparse = {item.values.name for item in self.graph.sparse_initializer}
        return stored | sparse | {item.name for item in self.graph.input}

    def names(self) -> set[str]:
        """Return all names, as they are by now."""
        return self.made | self.read | self.given()


def _name_of(output: Any) -> str:
    """Return the name of an output: in a function, it is nothing else."""
    return str(getattr(output, "name", output))


def _captured(graph: Any) -> set[str]:
    mentions = Mentions(graph)
    return mentions.read - mentions.made - mentions.given()

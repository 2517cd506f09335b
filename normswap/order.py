"""The order of nodes, and what they read, of protobuf messages."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def in_topological_order(nodes: list[Any]) -> list[Any]:
    """Return the nodes as they are if each comes after those it reads from, else sorted stably.

    Raises
    ------
    ValueError
        The nodes form a cycle.
    """
    producer = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    needs = [{producer[name] for name in read_by_node(node) if name in producer} for node in nodes]
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
        raise ValueError(f"the nodes form a cycle around {node.op_type} {node.name!r}")
    return [nodes[i] for i in order]


def read_by_node(node: Any) -> Iterator[str]:
    """Yield the names a node reads, those that its subgraphs capture included."""
    for name in node.input:
        if name:
            yield name
    for item in node.attribute:
        if item.HasField("g"):
            yield from _captured(item.g)
        for graph in item.graphs:
            yield from _captured(graph)


def read_by_graph(graph: Any) -> set[str]:
    """Return the names that nodes or outputs of a ``GraphProto`` read, captured ones included."""
    names = {name for node in graph.node for name in read_by_node(node)}
    return names | {item.name for item in graph.output}


def _captured(graph: Any) -> set[str]:
    local = {name for node in graph.node for name in node.output}
    local |= {item.name for item in graph.input} | {item.name for item in graph.initializer}
    local |= {item.values.name for item in graph.sparse_initializer}
    return read_by_graph(graph) - local

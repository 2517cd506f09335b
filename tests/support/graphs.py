"""What there is in a graph, and what is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    from collections.abc import Iterator


def live_ops(model: onnx.ModelProto) -> list[str]:
    """Return the operators that the outputs of the main graph depend on, in order."""
    needed = {info.name for info in model.graph.output}
    found = []
    for node in reversed(model.graph.node):
        if needed.isdisjoint(node.output):
            continue
        found.append(node.op_type)
        needed.update(node.input)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                needed.update(name for inner in attribute.g.node for name in inner.input)
    return found[::-1]


def every_graph(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and the bodies in it, at any depth."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from every_graph(attribute.g)

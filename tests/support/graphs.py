"""What is left of a graph, for assertions."""

from __future__ import annotations

import onnx


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

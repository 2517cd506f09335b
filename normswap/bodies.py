"""Bodies: the graphs in the attributes of a node, such as the branches of an If."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the bodies of a node."""
    return [
        body
        for attribute in node.attribute
        for body in ([attribute.g] if attribute.HasField("g") else attribute.graphs)
    ]


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, and those that its bodies may capture."""
    yield from filter(None, node.input)
    for body in bodies(node):
        for inner in body.node:
            yield from reads(inner)
        yield from (value.name for value in body.output)

"""Sequences that a tensor is split into.

torch's newer exporter writes a split as a SplitToSequence and a SequenceAt for each part. For the
inference of ONNX, which has no sizes for them, that becomes a Split, whose sizes it knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from normswap.graph.evaluate import integers_of
from normswap.order import set_nodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from normswap.graph.network import Node


def split_sequences(
    graph: onnx.GraphProto, known: Mapping[str, npt.NDArray[Any]], opset: int
) -> None:
    """Let those who take a part of a sequence read the part of a Split.

    Parameters
    ----------
    graph : onnx.GraphProto
        Is changed: there is a Split beside each SplitToSequence into parts of known sizes, and an
        Identity in the place of each SequenceAt of it.
    known : mapping of str to ndarray
        The integers that are known.
    opset : int
        Of the default domain.
    """
    nodes: list[onnx.NodeProto] = []
    lengths: dict[str, int] = {}  # by name of the sequence
    for node in graph.node:
        name = node.output[0] if node.output else ""
        sizes = known.get(node.input[1]) if len(node.input) == 2 else None
        if node.op_type == "SplitToSequence" and sizes is not None and sizes.ndim == 1:
            lengths[name] = sizes.size
            parts = [f"{name}/{number}" for number in range(sizes.size)]
            axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
            inputs = list(node.input) if opset >= 13 else [node.input[0]]
            given = {} if opset >= 13 else {"split": [int(size) for size in sizes]}
            nodes.append(onnx.helper.make_node("Split", inputs, parts, axis=axis, **given))
        elif node.op_type == "SequenceAt" and sizes is not None and lengths.get(node.input[0]):
            place = int(sizes.reshape(-1)[0]) % lengths[node.input[0]]
            nodes.append(onnx.helper.make_node("Identity", [f"{node.input[0]}/{place}"], [name]))
            continue
        nodes.append(node)
    if lengths:
        set_nodes(graph, nodes)


def parts_of(split: Node, length: object) -> list[range] | None:
    """Return where each part lies that a SplitToSequence makes; None where that is not known.

    Parameters
    ----------
    length : int or other
        How long the axis is, if that is known.
    """
    given, sizes = split.input(1), integers_of(split.input(1))
    if sizes is None or given is None:
        if given is not None or not split.attr("keepdims", 1) or not isinstance(length, int):
            return None
        return [range(i, i + 1) for i in range(length)]
    if given.shape == ():  # all of this size, but perhaps for the last
        if not isinstance(length, int) or sizes[0] < 1:
            return None
        return [range(i, min(i + sizes[0], length)) for i in range(0, length, sizes[0])]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]

"""Sequences that a tensor is split into, for the inference of ONNX, which has no sizes for them.

torch's newer exporter writes a split as a SplitToSequence and a SequenceAt for each part. Here that
becomes a Split, whose sizes ONNX knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt


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
        copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copied)

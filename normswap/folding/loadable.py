"""Whether the constants that a route makes are broadcast as whoever loads the model expects.

Where ONNX infers another size than runtimes make (:mod:`normswap.graph.sizes`), a Mul whose
constant has as many elements as there are in truth is an error for ONNX, and a runtime does not
load it. A scalar fits whatever is inferred, and no other constant may come into its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.edits import Edit, Insert, Replace
from normswap.graph.reasons import Block, Reason
from normswap.semantics.families import ARITHMETIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from normswap.graph.network import Node

BROADCASTING = ARITHMETIC | {"Max", "Mean", "Min", "Sum", "Where"}
"""Operators whose operands ONNX compares size by size."""


def misfit(edits: Iterable[Edit], nodes: Mapping[int, Node]) -> Block | None:
    """Say which new constant has a size where ONNX may infer another one, or None.

    Parameters
    ----------
    edits : iterable of Edit
    nodes : Mapping[int, Node]
        By key, those that the edits name.
    """
    for edit in edits:
        if isinstance(edit, Insert):
            value = nodes[edit.node].outputs[edit.output]
        elif isinstance(edit, Replace) and _is_broadcasting(nodes[edit.node]):
            value = nodes[edit.node].out
        else:
            continue
        if value is not None and value.is_doubtful_along(edit.constant.shape):
            detail = (
                f"ONNX may infer another shape for {value.name} than the new {edit.hint} needs, "
                "and runtimes then refuse the model"
            )
            return Block(Reason.SHAPE_UNKNOWN, value.name, detail)
    return None


def _is_broadcasting(node: Node) -> bool:
    return not node.domain and node.op in BROADCASTING

"""Take out two Transposes that undo each other, once a fold has left nothing between them.

They are put around a BatchNormalization whose channels are the last axis, as those of a linear
layer over tokens. Two that were next to each other in the model stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.edits import Bypass
from normswap.graph.network import Use
from normswap.graph.removal import removal_block

if TYPE_CHECKING:
    from normswap.folding.draft import Draft
    from normswap.graph.network import Graph, Node


def straighten(draft: Draft, graph: Graph) -> bool:
    """Take out pairs that are new."""
    start = draft.mark()
    pairs = [(first, node) for node in graph.nodes if (first := _undone(node)) is not None]
    if graph not in draft.turned:
        draft.note(draft.turned, graph, frozenset(second.key for _, second in pairs))
        return False
    for first, second in pairs:
        if second.key not in draft.turned[graph] and not first.removed:
            chain = [Use(first, 0), Use(second, 0)]
            if removal_block(chain) is None:
                draft.commit([Bypass(first.key), Bypass(second.key)])
    return bool(draft.since(start))


def _undone(node: Node) -> Node | None:
    """Return the Transpose that a Transpose undoes, which nobody else reads; None if there is none.

    Without ``perm`` the axes are reversed, which undoes itself.
    """
    value = node.input(0)
    first = None if value is None else value.producer
    if not (_is_transpose(node) and first is not None and _is_transpose(first)):
        return None
    if value is None or not value.is_private or value.graph is not node.graph:
        return None
    before, after = first.attr("perm", None), node.attr("perm", None)
    if before is None or after is None:
        return first if before is after else None
    undoes = [before[axis] for axis in after] == list(range(len(before)))
    return first if undoes else None


def _is_transpose(node: Node) -> bool:
    known = not node.domain and not node.removed and not node.refers_to_attributes
    return node.op == "Transpose" and known

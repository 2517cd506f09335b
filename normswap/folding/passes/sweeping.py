"""Let nodes read nothing of which edits have left nothing to be read.

They go from the model with that, so they are in nobody's way: a tensor that only such a one reads
beside a Conv is the Conv's alone. What nobody read in the first place stays, and reads on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normswap.folding.draft import Draft
    from normswap.graph.network import Graph, Node


def sweep(draft: Draft, graph: Graph) -> bool:
    """Release what the nodes of a graph read that have come to nothing; edits nothing."""
    if graph not in draft.idle:
        draft.note(draft.idle, graph, frozenset(n.key for n in graph.nodes if _is_idle(n)))
        return False
    found = draft.records[graph].values()
    kept = draft.idle[graph] | {use.node.key for record in found for use in record.whole.chain}
    pending = [node for node in graph.nodes if node.key not in kept and _is_idle(node)]
    while pending:
        node = pending.pop()
        makers = [value.producer for value in node.inputs if value is not None]
        draft.release(node)
        pending += [
            maker
            for maker in makers
            if maker is not None and maker.key not in kept and _is_idle(maker)
        ]
    return False


def _is_idle(node: Node) -> bool:
    """Whether a node that is there reads something, and nobody reads what it makes."""
    return (
        not node.removed
        and any(value is not None for value in node.inputs)
        and not any(value is not None and value.is_used for value in node.outputs)
    )

"""Fold single operators by constants that routes have gone into.

Nobody asks for a Mul or Add by itself to go; but where a normalization has just made it what it is,
it goes the rest of the way if that costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.answers import Up
from normswap.folding.edits import Bypass, Replace
from normswap.folding.route import Router
from normswap.graph.decomposed import affine_of_link, link
from normswap.graph.removal import removal_block

if TYPE_CHECKING:
    from normswap.folding.draft import Draft
    from normswap.graph.network import Graph, Use


def tidy(draft: Draft, graph: Graph) -> bool:
    """Fold what is no normalization, and has got a new constant."""
    start = draft.mark()
    edits = draft.since(draft.begun[graph])
    edited = dict.fromkeys(edit.node for edit in edits if isinstance(edit, Replace))
    taken = {use.node.key for found in draft.records[graph].values() for use in found.whole.chain}
    for key in edited:
        node = draft.nodes[key]
        use = None if key in taken or node.graph is not graph else link(node)
        if use is not None:
            fold_link(draft, use)
    return bool(draft.since(start))


def fold_link(draft: Draft, use: Use) -> None:
    """Fold a single operator by a constant, if that costs nothing."""
    mark = draft.mark()
    outcome = Router(draft).solve([Up(use, affine_of_link(use))])
    if not (outcome.block or outcome.cost or removal_block([use])):
        draft.commit([Bypass(use.node.key, use.slot)])
        if not draft.outgrown(use.node.title):
            return
    draft.rollback(mark)

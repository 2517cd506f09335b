"""Specialise functions for their calls, or inline them, where that folds more than in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from normswap.folding.edits import Specialise
from normswap.folding.inlining import Inliner
from normswap.folding.plan import Kept

if TYPE_CHECKING:
    from normswap.folding.draft import Draft
    from normswap.folding.functions import Callee, Library
    from normswap.folding.inlining import Path
    from normswap.graph.network import Graph


Settle = Callable[[Iterable["Graph"]], None]
"""Folds what is in some graphs."""


def fold_calls(draft: Draft, library: Library, settle: Settle) -> None:
    """Let calls have copies of their functions; inline those that routes go across.

    Parameters
    ----------
    draft : Draft
        Of which all graphs are settled.
    library : Library
        Of the same network.
    settle : callable
    """
    root, start = draft.network.graphs[0], draft.mark()
    inliner = Inliner(draft, library)

    def count_with(wanted: set[Path] | None) -> int | None:
        """Return how many normalizations stay with some calls inlined, all if None are named."""
        draft.rollback(start)
        if not inliner.inline(root, wanted) or draft.outgrown(root.path):
            return None
        settle(root.family())
        specialise_calls(draft, library, settle)
        return _count_kept(draft, library, root)

    specialise_calls(draft, library, settle)
    kept = _count_kept(draft, library, root)
    if not kept or not any(library.calls(root.family())):
        return
    fewest = count_with(None)
    if fewest is not None and fewest < kept:
        wanted = inliner.touched(draft.since(start))
        if count_with(wanted) != fewest:
            count_with(None)
        return
    draft.rollback(start)
    specialise_calls(draft, library, settle)


def specialise_calls(draft: Draft, library: Library, settle: Settle) -> None:
    """Let calls have copies of their functions, as they are for their arguments."""
    copies: dict[Callee, int] = {}  # keys of their first nodes

    def specialise(root: Graph) -> None:
        for node, number in list(library.calls(root.family())):
            before = _count_kept(draft, library, draft.network.bodies[number])
            callee = library.callee(node) if before else None
            if callee is None:
                continue
            if callee in copies:
                draft.commit([Specialise(node.key, number, copies[callee])])
                continue
            mark, first = draft.mark(), draft.network.keys
            copy = library.instantiate(node, number)
            draft.specialise(Specialise(node.key, number, first), copy)
            settle(copy)
            specialise(copy[0])
            if _count_kept(draft, library, copy[0]) < before and not draft.outgrown(node.title):
                draft.note(copies, callee, first)
            else:
                draft.rollback(mark)

    for body in draft.network.bodies:
        specialise(body)
    specialise(draft.network.graphs[0])


def _count_kept(draft: Draft, library: Library, root: Graph) -> int:
    """Return how many normalizations stay as they are in a graph, and in all that it calls."""
    total, pending = 0, [root]
    while pending:
        family = pending.pop().family()
        records = (record for graph in family for record in draft.records[graph].values())
        total += sum(isinstance(r.fate, Kept) and r.told is None for r in records)
        total += sum(node.key in draft.undivided for graph in family for node in graph.nodes)
        pending += [draft.callee(node, number) for node, number in library.calls(family)]
    return total

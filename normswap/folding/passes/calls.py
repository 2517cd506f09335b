"""Specialise functions for the calls of them where that folds more than in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.edits import Specialise
from normswap.folding.plan import Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from normswap.folding.draft import Draft
    from normswap.folding.functions import Callee, Library
    from normswap.graph.network import Graph


def specialise_calls(
    draft: Draft, library: Library, settle: Callable[[Iterable[Graph]], None]
) -> None:
    """Let calls have copies of their functions, as they are for their arguments.

    Parameters
    ----------
    draft : Draft
    library : Library
        Of the same network.
    settle : callable
        Folds what is in some graphs.
    """
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
            if _count_kept(draft, library, copy[0]) < before:
                draft.note(copies, callee, first)
            else:
                draft.rollback(mark)

    for body in draft.network.bodies:
        specialise(body)
    specialise(draft.network.graphs[0])


def _count_kept(draft: Draft, library: Library, root: Graph) -> int:
    """Return how many normalizations stay in a graph, its subgraphs and what they call."""
    total, pending = 0, [root]
    while pending:
        family = pending.pop().family()
        records = (record for graph in family for record in draft.records[graph].values())
        total += sum(isinstance(record.fate, Kept) for record in records)
        pending += [draft.callee(node, number) for node, number in library.calls(family)]
    return total

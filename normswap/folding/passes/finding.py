"""Enter the normalizations of a graph in the draft's records."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from normswap.folding.plan import Folded
from normswap.folding.record import Record
from normswap.graph.normalization import normalizations

if TYPE_CHECKING:
    from collections.abc import Container

    from normswap.folding.draft import Draft
    from normswap.graph.network import Graph


def find(draft: Draft, graph: Graph, *, only: Container[int] | None = None) -> bool:
    """Note what there is to be folded in a graph as it is by now; edits nothing.

    What was folded may have brought operators together that now are a normalization, and may have
    made of one that is known a longer or a shorter one.

    Parameters
    ----------
    draft : Draft
    graph : Graph
    only : container of int, optional
        The keys of the nodes that count; all do if it is left out.
    """
    known = graph in draft.records
    if not known:
        draft.note(draft.begun, graph, draft.mark())
        draft.note(draft.records, graph, {})
    for whole in normalizations(graph):
        record = draft.records[graph].get(whole.key)
        if record is None:
            if only is not None and whole.key not in only:
                continue
            late = known and not (whole.key in draft.inlined or whole.key in draft.divided)
            draft.enter(Record(whole, whole.site(), whole.key, certain=whole.certain, late=late))
        elif not isinstance(record.fate, Folded):
            draft.enter(replace(record, whole=whole))
    return False

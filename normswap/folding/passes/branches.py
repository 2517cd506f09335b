"""Merge parallel branches into one Conv wherever they are added (``--merge-branches``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.branches import Branch, branch_of, conv_of, convs_of, diagonal, join
from normswap.folding.passes.tidying import fold_link
from normswap.folding.sums import Term, is_sum, is_term, terms_of
from normswap.graph.affine import Affine
from normswap.graph.decomposed import link
from normswap.graph.reasons import unless_blocked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.folding.draft import Draft
    from normswap.graph.network import Graph, Node, Value


def merge_everywhere(draft: Draft, graph: Graph) -> bool:
    """Merge all branches of a graph that can be, and say whether there were any."""
    start = draft.mark()
    for node in graph.topological():
        if not node.removed and is_sum(node) and not is_term(node.out):
            _fold_layer_scales(draft, node.out)
            merge(draft, node.out)
    return bool(draft.since(start))


def merge(draft: Draft, total: Value) -> None:
    """Merge the terms of a sum as far as that goes."""
    remaining: Value | None = total
    while remaining is not None:
        joined = (unless_blocked(join, draft, remaining, *pair) for pair in _pairs(remaining))
        remaining = next((found for found in joined if found is not None), None)


def _pairs(total: Value) -> Iterator[tuple[Term, Node, Branch]]:
    """Yield which terms of a sum go into which Conv of it."""
    terms = list(terms_of(total))
    inputs = {id(conv.inputs[0]): conv.inputs[0] for conv in map(conv_of, terms) if conv}
    for value in inputs.values():
        if value is None:
            continue
        for host in convs_of(total, value):
            own = branch_of(host)
            for term in terms:
                conv = conv_of(term)
                if conv is not None and conv is not host and conv.inputs[0] is value:
                    branch = branch_of(conv)
                elif term.value is value:
                    branch = diagonal(host, Affine(np.ones(()), np.zeros(())), value.name, ())
                else:
                    continue
                if own is not None and branch is not None and own.place(branch):
                    yield term, host, branch


def _fold_layer_scales(draft: Draft, total: Value) -> None:
    """Let the Convs of a sum take in the constants that they are multiplied with."""
    for term in list(terms_of(total)):
        node = term.value.producer
        use = link(node) if node is not None and node.op == "Mul" and term.use else None
        value = use and use.node.inputs[use.slot]
        maker = value.producer if value is not None else None
        if use and maker and (maker.op == "Conv" or is_sum(maker)):  # else it is no branch
            fold_link(draft, use)

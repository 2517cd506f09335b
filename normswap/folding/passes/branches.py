"""Merge parallel branches into one Conv wherever they are added (``--merge-branches``)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.branches import Branch, branch_of, conv_of, convs_of, diagonal, join
from normswap.folding.edits import Bypass
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
    found = True
    while found:
        found = False
        for term, other, branch in _pairs(total):
            joined = unless_blocked(join, draft, total, term, other, branch)
            if joined is not None:
                _drop_copies(draft, term.value)
                total, found = joined, True
                if term.use and term.use.node.op == "Sub":
                    break  # the signs of others may have changed


def _drop_copies(draft: Draft, value: Value) -> None:
    """Take out who made a term by copying a tensor, if nobody reads that any more."""
    while not value.is_used and (node := value.producer) is not None and _is_copy(node):
        value = node.operand(0)
        draft.commit([Bypass(node.key)])


def _pairs(total: Value) -> Iterator[tuple[Term, Term, Branch]]:
    """Yield which terms of a sum go into which Conv of it, of those that are still there then."""
    groups: dict[Value, list[Term]] = {}
    for term in terms_of(total):
        conv = conv_of(term)
        value = _copied(term.value) if conv is None else conv.inputs[0]
        if value is not None:
            groups.setdefault(value, []).append(term)
    for value, group in groups.items():
        for other in convs_of(value, group):
            for term in group:
                host, conv = conv_of(other), conv_of(term)
                own = None if host is None or host.removed else branch_of(host)
                if host is None or own is None:
                    break
                if conv is None:
                    use = term.use
                    branch = diagonal(host, Affine(np.ones(()), np.zeros(())), value.name, ())
                elif conv is host or conv.removed:
                    continue
                else:  # where it is read by now
                    use, branch = next(iter(term.value.readers.values())), branch_of(conv)
                there = use is not None and use.node.input(use.slot) is term.value
                if there and branch is not None and own.place(branch):
                    yield replace(term, use=use), other, branch


def _copied(value: Value) -> Value:
    """Return what a tensor is a copy of; itself where it is none."""
    while (node := value.producer) is not None and _is_copy(node):
        value = node.operand(0)
    return value


def _is_copy(node: Node) -> bool:
    return node.op == "Identity" and not node.domain and node.input(0) is not None


def _fold_layer_scales(draft: Draft, total: Value) -> None:
    """Let the Convs of a sum take in the constants that they are multiplied with."""
    for term in list(terms_of(total)):
        node = term.value.producer
        use = link(node) if node is not None and node.op == "Mul" and term.use else None
        value = use and use.node.inputs[use.slot]
        maker = value.producer if value is not None else None
        if use and maker and (maker.op == "Conv" or is_sum(maker)):  # else it is no branch
            fold_link(draft, use)

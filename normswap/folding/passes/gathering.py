"""Fold a BatchNormalization together with its own input, where that is added to it.

``BN(x) + x`` is a BatchNormalization of x, and may then be the only one who reads x.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.passes.merging import add_to_batchnorm
from normswap.folding.passes.routes import fold
from normswap.folding.plan import Kept
from normswap.folding.sums import term_of, total_of
from normswap.graph.affine import Affine
from normswap.graph.batchnorm import is_per_activation
from normswap.graph.reasons import blocked_by

if TYPE_CHECKING:
    from normswap.folding.draft import Draft
    from normswap.graph.network import Graph
    from normswap.graph.normalization import Normalization


def gather(draft: Draft, graph: Graph, *, always: bool) -> bool:
    """Fold what is kept in a graph together with its inputs, if that helps or is wanted always."""
    start = draft.mark()
    for record in draft.left(graph):
        kept = record.fate
        if not isinstance(kept, Kept) or not any(a.direction == "beside" for a in kept.attempts):
            continue  # it is added to nothing
        mark, normalization = draft.mark(), record.whole.present()
        if normalization is None or not _take_in_input(draft, normalization):
            continue
        fold(draft, record)
        if not always and isinstance(draft.records[graph][record.whole.key].fate, Kept):
            draft.rollback(mark)
    return bool(draft.since(start))


def _take_in_input(draft: Draft, normalization: Normalization) -> bool:
    """Let a BatchNormalization take in its own input as often as that is added to what it makes."""
    node, slot = normalization.source
    value, start = node.inputs[slot], draft.mark()
    while normalization.is_batchnorm and not is_per_activation(node) and value is not None:
        total = total_of(node.out)
        own = term_of(value, total)
        identity = Affine(np.ones(()), np.zeros(()))
        if own is None or blocked_by(add_to_batchnorm, draft, total, own, identity, node):
            break
    return bool(draft.since(start))

"""Fold a normalization of a sum, of Convs of a tensor and the tensor itself, into one Conv.

``s * (conv(x) + x) + t``: no affine goes up to x, which the Conv reads too. But x is a Conv of
itself, with a unit kernel, and ``conv(x) + x`` is one Conv (:mod:`normswap.folding.branches`),
which takes the affine in. The addition goes, and no operation comes. This is how RepViT normalizes,
and RepVGG without a BatchNormalization on its identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.passes.branches import merge
from normswap.folding.passes.routes import fold
from normswap.folding.plan import Kept
from normswap.folding.sums import is_sum

if TYPE_CHECKING:
    from normswap.folding.draft import Draft
    from normswap.graph.network import Graph


def join(draft: Draft, graph: Graph, *, always: bool) -> bool:
    """Merge the branches of what kept normalizations read, if they fold then or it is wanted so."""
    start = draft.mark()
    for record in draft.left(graph):
        normalization = record.whole.present()
        if not isinstance(record.fate, Kept) or normalization is None:
            continue
        mark, (node, slot) = draft.mark(), normalization.source
        total = node.inputs[slot]
        if total is None or not total.is_private or not is_sum(total.producer):
            continue  # where another one reads that sum too, nothing is won
        merge(draft, total)
        if not draft.since(mark):
            continue
        fold(draft, record)
        if not always and isinstance(draft.records[graph][record.whole.key].fate, Kept):
            draft.rollback(mark)
    return bool(draft.since(start))

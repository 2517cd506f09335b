"""A sum that a normalization reads, of Convs of a tensor and the tensor itself, made one Conv.

``s * (conv(x) + x) + t``: no affine goes up to x, which the Conv reads too. But x is a Conv of
itself, with a unit kernel, and ``conv(x) + x`` is one Conv (:mod:`normswap.folding.branches`),
which takes the affine in. The addition goes, and no operation comes. This is how RepViT normalizes,
and RepVGG without a BatchNormalization on its identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.branches import SUMS

if TYPE_CHECKING:
    from normswap.folding.branches import Merger
    from normswap.graph.network import Value
    from normswap.graph.normalization import Normalization


def sum_before(normalization: Normalization) -> Value | None:
    """Return the sum that a normalization, and nobody else, reads; None if it reads none."""
    node, slot = normalization.source
    total = node.inputs[slot]
    if total is None or total.producer is None or not total.is_private:
        return None
    return total if total.producer.op in SUMS and not total.producer.domain else None


def merge_sum(merger: Merger, total: Value) -> bool:
    """Merge the branches of a sum, and say whether there were any."""
    start = merger.draft.mark()
    merger.merge(total)
    return merger.draft.mark() > start

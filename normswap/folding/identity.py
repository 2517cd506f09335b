"""A sum that a normalization reads, of Convs of a tensor and the tensor itself, made one Conv.

``s * (conv(x) + x) + t``: no affine goes up to x, which the Conv reads too. But x is a Conv of
itself, with a unit kernel, and ``conv(x) + x`` is one Conv (:mod:`normswap.folding.branches`),
which takes the affine in. The addition goes, and no operation comes. This is how RepViT normalizes,
and RepVGG without a BatchNormalization on its identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normswap.folding.branches import Merger
    from normswap.graph.normalization import Normalization


def merge_source(merger: Merger, normalization: Normalization) -> bool:
    """Merge the branches of the sum that a normalization reads, and say whether there were any.

    Parameters
    ----------
    merger : Merger
        Whose draft is edited.
    normalization : Normalization
        Where another one reads that sum too, nothing is done.
    """
    node, slot = normalization.source
    total, start = node.inputs[slot], merger.draft.mark()
    if total is not None and total.is_private:
        merger.merge(total)
    return merger.draft.mark() > start

"""What decides on CUDA which form of a layer is the fastest.

The order is that of ``benchmarks/RESULTS-CUDA.md``, measured on one card. onnxruntime's
LayerNormalization has a block of threads for every row (a row is a group of a sample) and fills the
device where there are many; cuDNN's InstanceNormalization has several for a long one, so that it
wins where there are few. What is made of plain operators takes up to a hundred times as long, since
a mean over few long rows is slow there. ``com.microsoft.GroupNorm`` is as fast, and in float16 with
a SiLU behind it up to four times as fast, but cancels where the mean is large; so it is left to
those who ask for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normswap.groupnorm.layer import Layer

FEW_ROWS = 32
"""Rows up to which they leave most of a device idle, one block each."""

LONG_ROW = 1 << 13
"""Elements from which on several blocks are of use to a row."""


def has_few_long_rows(layer: Layer) -> bool:
    """Whether the groups of all samples are few and large; not where sizes are not static."""
    batch = layer.shape[0] if layer.shape else None
    if not isinstance(batch, int):
        return False
    return layer.num_groups * batch <= FEW_ROWS and (layer.group_elements or 0) >= LONG_ROW

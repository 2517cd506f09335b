"""The samples of a batch in another order: a legal execution where a model treats each by itself.

A kernel may round a sample otherwise in another place of its batch (another block of a matrix
product, another thread), and that is noise. A model that tells places apart, such as one that
subtracts the first sample or sums along the batch, gives other values, and that is none. Whether
it is one or the other can't be read off a graph in general, so it is told by size
(`normswap.check.evidence.gather`): what is called noise here is never much more than what the
other executions showed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.inputs.random import Case


def batch_size(case: Case) -> int | None:
    """Return how many samples a set of inputs has, None where it is no batch of two or more."""
    values = list(case.feeds.values())
    if not values or not all(isinstance(value, np.ndarray) and value.ndim for value in values):
        return None
    sizes = {len(value) for value in values}
    size = sizes.pop()
    return size if not sizes and size > 1 else None


def reordered(case: Case) -> Case:
    """Return the inputs with every sample one place further on, the last one first."""
    return replace(case, feeds={name: np.roll(v, 1, axis=0) for name, v in case.feeds.items()})


def restored(tensors: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Return the outputs that follow the batch, each sample back in its place.

    Parameters
    ----------
    tensors : Mapping of str to numpy.ndarray
        What a model gave for `reordered` inputs.
    size : int
        How many samples they are.
    """
    return {
        leaf: np.roll(array, -1, axis=0)
        for leaf, array in tensors.items()
        if array.ndim and len(array) == size
    }

"""What a kernel's sums are off by, where they run over the very elements of a layer.

Rounding errors of a sum of L elements go either way and add up to about ``sqrt(L)`` of them, unless
many elements are equal, as behind an activation and a convolution of zeros: then they go one way,
and add up to all of them. Which it is, only the elements tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import NUMPY_DTYPES

if TYPE_CHECKING:
    import numpy.typing as npt

    from normswap.groupnorm.layer import Layer

    Float64 = npt.NDArray[np.float64]

SLACK = 32.0
"""How many times the effect of one rounding in each layer an output may be away from the truth."""

LANES = (1, 4)
"""Running sums that kernels keep, and add up in the end."""


@dataclass(frozen=True, slots=True)
class GroupStatistics:
    """The statistics of what comes to a layer, in float64, and what sums may make of them.

    Attributes
    ----------
    mean, spread : (N, G) ndarray of float64
        The latter is the variance with epsilon added.
    mean_off : (N, G) ndarray of float64
        What running sums in the layer's compute type are off by.
    spread_off : (N, G) ndarray of float64
        The same, relative to the spread: the worse of ``E[(x - mean)^2]`` and ``E[x^2]``.
    """

    mean: Float64
    spread: Float64
    mean_off: Float64
    spread_off: Float64

    @classmethod
    def of(cls, layer: Layer, x: npt.NDArray[Any]) -> GroupStatistics:
        """Compute them for an input ``(N, C, *spatial)``."""
        groups = x.astype(np.float64).reshape(len(x), layer.num_groups, -1)
        dtype, count = NUMPY_DTYPES[layer.compute_type], groups.shape[2]
        mean = groups.mean(axis=2)
        spread = groups.var(axis=2) + layer.epsilon
        squares = (np.square(groups), np.square(groups - mean[..., None]))
        spread_off = np.maximum(*(_off(each, dtype) for each in squares)) / count / spread
        return cls(mean, spread, _off(groups, dtype) / count, spread_off)


def by_channel(layer: Layer, per_group: Float64, ndim: int) -> Float64:
    """Give every channel what its group has: ``(N, G)`` to ``(N, C, 1, ...)``."""
    wide = np.repeat(per_group, layer.channels // layer.num_groups, axis=1)
    return wide.reshape(*wide.shape, *(1,) * (ndim - 2))


def _off(values: Float64, dtype: np.dtype[Any]) -> Float64:
    """Return by how much sums along the last axis are off, one after the other and in a type."""
    narrow = values.astype(dtype)
    exact = narrow.sum(axis=-1, dtype=np.longdouble)
    size = narrow.shape[-1]
    worst = np.zeros(exact.shape)
    for lanes in LANES:
        whole = size // lanes * lanes
        if not whole:
            continue
        rest = narrow[..., whole:].sum(axis=-1, dtype=np.longdouble)
        # NumPy's own sum is pairwise; a cumulative one can't be.
        running = narrow[..., :whole].reshape(*exact.shape, -1, lanes).cumsum(axis=-2)[..., -1, :]
        off = np.abs(running.sum(axis=-1, dtype=np.longdouble) + rest - exact)
        worst = np.fmax(worst, off.astype(np.float64))
    return worst

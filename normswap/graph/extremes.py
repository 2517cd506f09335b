"""The least and the largest magnitude of an array."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

AT_ONCE = 1 << 16
"""Elements that are looked at at a time, few enough for a cache."""


def extremes(array: npt.NDArray[Any]) -> tuple[float, float]:
    """Return ``min(abs(array))`` over what is not 0, and ``max(abs(array))``, in one pass.

    Returns
    -------
    least : float
        Infinite where there is nothing but 0.
    most : float
        0 of an empty array; NaN if any is not a number.
    """
    least, most = math.inf, 0.0
    flat = array.reshape(-1)
    for start in range(0, flat.size, AT_ONCE):
        part = flat[start : start + AT_ONCE]
        if part.dtype.itemsize == 2:  # over which NumPy is slow
            part = part.astype(np.float32)
        magnitudes = np.abs(part)
        high = float(magnitudes[magnitudes.argmax()])  # which is faster than max()
        if math.isnan(high):
            return least, high
        if magnitudes[magnitudes.argmin()] == 0:
            magnitudes[magnitudes == 0] = np.inf
        low = float(magnitudes[magnitudes.argmin()])
        least, most = min(least, low), max(most, high)
    return least, most


def magnitude(array: npt.NDArray[Any]) -> float:
    """Return ``max(abs(array))``; 0 of an empty array, NaN if any is not a number."""
    return extremes(array)[1]

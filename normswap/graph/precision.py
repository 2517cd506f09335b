"""Digits that a type does not have: where values are so small that rounding loses more than usual.

A float type of p digits rounds a value by a part of ``u = 2**-p`` at most, down to the smallest
normal number. Below that its values lie as far apart as there, so that a float16 of 1e-6 is off by
up to 3 %. Whether that matters is not a question of one element: what is tiny beside the other
elements of its output channel adds nothing to their sum. So elements are judged together, along
every axis: all that belong to one output channel, all that belong to one input channel, ...

Such a slice has lost digits if its rounding errors, summed up, are more than ``2 * u`` of its
magnitudes: twice what rounding ever does. One that is less than ``u**2`` of the largest is nothing
beside it with or without them, as are the dead channels that training leaves.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from normswap.dtypes import NUMPY_DTYPES, round_to

if TYPE_CHECKING:
    from normswap.dtypes import Wide

TOLERATED = 2.0
"""Times ``u``."""


@functools.cache
def smallest_normal(data_type: int) -> float:
    """Return the smallest value of a float type that has all its digits."""
    return float(ml_dtypes.finfo(NUMPY_DTYPES[data_type]).smallest_normal)


def lost_digits(factors: Wide, data_type: int) -> float | None:
    """Say how far factors would be off once they are stored, where that is more than rounding.

    Parameters
    ----------
    factors : (...,) ndarray of float64 or long double
        What tensors are multiplied by. (What is added to a tensor is rounded no worse than the sum
        is, which has the same type.)
    data_type : int
        The ``TensorProto.DataType`` in which they are stored.

    Returns
    -------
    float or None
        The part of their magnitude by which the worst slice is off; None where no digits are lost.
    """
    size = np.abs(factors)
    small = smallest_normal(data_type)
    if not ((size < small) & (size > 0)).any():
        return None
    error = np.abs(round_to(factors, data_type).astype(factors.dtype) - factors)
    unit = float(ml_dtypes.finfo(NUMPY_DTYPES[data_type]).eps) / 2
    axes: list[int | None] = [axis for axis, length in enumerate(size.shape) if length > 1]
    worst = 0.0
    for axis in axes or [None]:
        lost, whole = (_along(values, axis) for values in (error, size))
        counts = whole > unit**2 * whole.max()
        parts = lost[counts] / whole[counts]
        worst = max(worst, float(parts.max(initial=0)))
    return worst if worst > TOLERATED * unit else None


def _along(values: Wide, axis: int | None) -> Any:
    """Sum up everything that has the same index along an axis; all of it where there is none."""
    if axis is None:
        return values.sum().reshape(1)
    return values.sum(axis=tuple(other for other in range(values.ndim) if other != axis))

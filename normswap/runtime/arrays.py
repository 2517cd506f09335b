"""What models take and give: values, and the dtypes of their tensors.

A value is a tensor (`numpy.ndarray`), a sequence (`list`), an absent optional (`None`) or a map
(`dict`). NumPy's own format knows neither bfloat16 nor float8, so a tensor of a type from
ml_dtypes is saved as the unsigned integers of its bits.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

Value = Any  # np.ndarray | list[Value] | dict[int | str, Value] | None
Feeds = dict[str, Value]

_UNSIGNED = {1: np.uint8, 2: np.uint16}


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype called `name`, the types of ml_dtypes included."""
    return np.dtype(getattr(ml_dtypes, name, name))


def is_foreign(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is from ml_dtypes: NumPy computes with it, and cannot save it."""
    return hasattr(ml_dtypes, dtype.name)


def to_bits(array: np.ndarray) -> np.ndarray:
    """Return `array`, or the bits of it where its dtype is one that NumPy cannot save."""
    if is_foreign(array.dtype):
        return array.view(_UNSIGNED[array.dtype.itemsize])
    return array

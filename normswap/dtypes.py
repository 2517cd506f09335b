"""The float types of ONNX, and how normswap computes with them.

All folding arithmetic is *wide*: float64 for constants of up to 32 bits, and the platform's long
double for float64 ones (80 bits on x86), so that a folded constant is rounded exactly once, when it
is stored. Wide results of short formulas are then within 0.5 ulp of the exact value.
"""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from onnx import TensorProto

Wide = npt.NDArray[Any]
"""A float64 or long double array."""

NUMPY_DTYPES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.DOUBLE: np.dtype(np.float64),
}
"""The element types of which an affine can be folded."""


_DOUBLE, _LONG = np.dtype(np.float64), np.dtype(np.longdouble)


def is_float(data_type: int | None) -> bool:
    """Whether an affine can be folded into constants of this ``TensorProto.DataType``."""
    return data_type in NUMPY_DTYPES


@functools.cache
def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether a NumPy type is a floating-point type, those of ml_dtypes included."""
    try:
        ml_dtypes.finfo(dtype)
    except ValueError:
        return False
    return dtype.kind != "c"


def wide_dtype(data_type: int) -> np.dtype[Any]:
    """Return the type in which constants of ``data_type`` are computed."""
    return _LONG if data_type == TensorProto.DOUBLE else _DOUBLE


@functools.cache
def largest(data_type: int) -> float:
    """Return the largest finite value of a float type."""
    return float(ml_dtypes.finfo(NUMPY_DTYPES[data_type]).max)


def round_to(wide: Wide, data_type: int) -> npt.NDArray[Any]:
    """Round a wide array once, to nearest even, to a stored float type.

    Parameters
    ----------
    wide : (...,) ndarray of float64 or long double
    data_type : int
        ``TensorProto.FLOAT16``, ``BFLOAT16``, ``FLOAT`` or ``DOUBLE``.

    Returns
    -------
    (...,) ndarray
        Values beyond the type's range become infinite, as IEEE 754 says.
    """
    with np.errstate(over="ignore", under="ignore"):
        if data_type == TensorProto.BFLOAT16:
            # ml_dtypes goes by way of float32, which would round twice. A first rounding to odd
            # (truncate, then set the last bit if anything was cut off) makes the second one right.
            wide = np.asarray(wide)
            single = np.asarray(wide.astype(np.float32))
            back = single.astype(wide.dtype)
            finite = np.isfinite(single)
            bits = single.view(np.uint32).copy()
            bits[finite & (np.abs(back) > np.abs(wide))] -= 1
            bits[finite & (back != wide)] |= 1
            return bits.view(np.float32).astype(NUMPY_DTYPES[data_type])
        return wide.astype(NUMPY_DTYPES[data_type])

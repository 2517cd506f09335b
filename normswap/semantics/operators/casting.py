"""Casts between types, where a floating-point type of 16 bits and more is float64.

Source: ONNX operators Cast-1 to -28, CastLike-15 to -25.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx

from normswap.dtypes import is_floating
from normswap.semantics.registry import operator


@operator("Cast", since=(1, 6, 9, 13, 19, 21, 23, 24, 25, 28))
def cast(x: np.ndarray, *, to: int | str, saturate: int = 1) -> np.ndarray:
    """Convert; to a floating-point type means to float64, rounded only where it has 8 bits.

    Raises
    ------
    ValueError
        If the type is text, or a floating-point type of 8 bits and fewer that is not
        float8 e4m3fn with `saturate`.
    """
    if isinstance(to, str):  # until opset 5
        to = onnx.TensorProto.DataType.Value(to)
    if to == onnx.TensorProto.STRING:
        raise ValueError("it casts numbers to text, which every runtime writes differently")
    target = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(to))
    if is_floating(target):
        wide = x.astype(np.float64)
        return wide if target.itemsize > 1 else _of_8_bits(wide, target, saturate=bool(saturate))
    if x.dtype.kind in "OUS":
        x = x.astype(np.float64)
    if target == np.dtype(bool):
        return x != 0
    if is_floating(x.dtype):
        with np.errstate(invalid="ignore"):
            return np.nan_to_num(x).astype(target)
    return x.astype(target)


def _of_8_bits(x: np.ndarray, target: np.dtype[Any], *, saturate: bool) -> np.ndarray:
    """Round to float8 e4m3fn, beyond its range to its largest value."""
    if target != np.dtype(ml_dtypes.float8_e4m3fn) or not saturate:
        raise ValueError(f"such casts to {target.name} are not supported in float64")
    largest = float(ml_dtypes.finfo(target).max)
    x = np.clip(x, -largest, largest)
    return x.astype(np.float32).astype(target).astype(np.float64)


@operator("CastLike", since=(15, 19, 21, 23, 24, 25))
def cast_like(x: np.ndarray, like: np.ndarray, *, saturate: int = 1) -> np.ndarray:
    """Convert to the type of another array."""
    return cast(x, to=onnx.helper.np_dtype_to_tensor_dtype(like.dtype), saturate=saturate)

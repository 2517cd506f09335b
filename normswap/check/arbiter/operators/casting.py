"""Casts between types, where every floating-point type is float64, and dequantization.

Source: ONNX operators Cast-19, CastLike-19, DequantizeLinear-21.
"""

from __future__ import annotations

import numpy as np
import onnx

from normswap.check.arbiter.registry import Unhandled, operator
from normswap.check.inputs import is_float


@operator("Cast")
def cast(x: np.ndarray, *, to: int) -> np.ndarray:
    """Convert; to a floating-point type means to float64, without its rounding."""
    if to == onnx.TensorProto.STRING or x.dtype.kind in "OUS":
        raise Unhandled
    target = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(to))
    if is_float(target):
        return x.astype(np.float64)
    if is_float(x.dtype):
        with np.errstate(invalid="ignore"):
            return np.nan_to_num(x).astype(target)
    return x.astype(target)


@operator("CastLike")
def cast_like(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Convert to the type of another array."""
    return cast(x, to=onnx.helper.np_dtype_to_tensor_dtype(like.dtype))


@operator("DequantizeLinear")
def dequantize_linear(
    x: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
) -> np.ndarray:
    """Return ``(x - zero_point) * scale``; integers of 32 bits are exact in float64."""

    def spread(parameter: np.ndarray) -> np.ndarray:
        parameter = parameter.astype(np.float64)
        if parameter.size == 1:
            return parameter.reshape(())
        if block_size:
            repeated = np.repeat(parameter, block_size, axis=axis)
            return repeated[
                tuple(
                    slice(size) if i == axis % x.ndim else slice(None)
                    for i, size in enumerate(x.shape)
                )
            ]
        shape = [1] * x.ndim
        shape[axis] = -1
        return parameter.reshape(shape)

    values = x.astype(np.float64)
    if zero_point is not None:
        values = values - spread(zero_point)
    return values * spread(scale)

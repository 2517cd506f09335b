"""Quantized arithmetic, exact in integers up to where it is rounded.

Source: ONNX operators of these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx

from normswap.semantics.operators.convolution import conv
from normswap.semantics.operators.windows import WindowAttributes
from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

_SINCE = (10, 13, 19, 21, 23, 24, 25)


def spread(parameter: np.ndarray, shape: Sequence[int], axis: int, block_size: int) -> np.ndarray:
    """Return a scale or zero point as it lines up with a tensor: whole, by axis, or by blocks."""
    if parameter.size == 1 and not block_size:
        return parameter.reshape(())
    if block_size:
        along = axis % len(shape)
        repeated = np.repeat(parameter, block_size, axis=along)
        return np.take(repeated, np.arange(shape[along]), axis=along)
    sizes = [1] * len(shape)
    sizes[axis] = -1
    return parameter.reshape(sizes)


def _rounded(real: np.ndarray, zero_point: np.ndarray | float, dtype: np.dtype[Any]) -> np.ndarray:
    """Round to nearest even, add a zero point, and keep what the type can hold."""
    info = ml_dtypes.iinfo(dtype)  # knows integers of 4 bits too
    return np.clip(np.rint(real) + zero_point, info.min, info.max).astype(dtype)


@operator("QuantizeLinear", since=_SINCE)
def quantize_linear(
    x: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> np.ndarray:
    """Return ``x / scale``, rounded to integers, plus the zero point."""
    dtype = np.dtype(np.uint8)
    if zero_point is not None:
        dtype = zero_point.dtype
    elif output_dtype:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(output_dtype)
    if dtype.kind == "f":
        raise ValueError("it quantizes to a floating-point type, which is not supported in float64")
    zero: Any = 0.0
    if zero_point is not None:
        zero = spread(zero_point.astype(np.float64), x.shape, axis, block_size)
    return _rounded(x / spread(scale, x.shape, axis, block_size), zero, dtype)


@operator("DequantizeLinear", since=_SINCE)
def dequantize_linear(
    x: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
) -> np.ndarray:
    """Return ``(x - zero_point) * scale``; integers of 32 bits are exact in float64."""
    values = x.astype(np.float64)
    if zero_point is not None:
        values = values - spread(zero_point.astype(np.float64), x.shape, axis, block_size)
    return values * spread(scale.astype(np.float64), x.shape, axis, block_size)


@operator("DynamicQuantizeLinear", since=(11,))
def dynamic_quantize_linear(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return x quantized to uint8 over its own range, with the scale and zero point of it."""
    x = x.astype(np.float32)  # the operator's only type: its scale is rounded to it on purpose
    low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
    scale = np.float32((high - low) / np.float32(255) if high > low else 1)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    y = _rounded(x / scale, zero, np.dtype(np.uint8))
    return y, np.array(scale, np.float64), np.asarray(zero).astype(np.uint8)


def _centred(x: np.ndarray, zero_point: np.ndarray | None, axis: int) -> np.ndarray:
    """Return integers without their zero point, which may be one for every row or column."""
    if zero_point is None:
        return x.astype(np.float64)
    zero = zero_point.astype(np.float64)
    if zero.ndim == 1 and zero.size > 1:
        shape = [1] * x.ndim
        shape[axis] = -1
        zero = zero.reshape(shape)
    elif zero.size == 1:
        zero = zero.reshape(())
    return x.astype(np.float64) - zero


@operator("MatMulInteger", since=(10,))
def matmul_integer(
    a: np.ndarray,
    b: np.ndarray,
    a_zero: np.ndarray | None = None,
    b_zero: np.ndarray | None = None,
) -> np.ndarray:
    """Return the product of matrices of integers, exact."""
    product = np.matmul(_centred(a, a_zero, -2), _centred(b, b_zero, -1))
    return np.asarray(product).astype(np.int64).astype(np.int32)


@operator("ConvInteger", since=(10,), shared=WindowAttributes)
def conv_integer(
    x: np.ndarray,
    w: np.ndarray,
    x_zero: np.ndarray | None = None,
    w_zero: np.ndarray | None = None,
    *,
    group: int = 1,
    **attributes: Unpack[WindowAttributes],
) -> np.ndarray:
    """Convolve integers, exactly; padding is the zero point."""
    whole = conv(
        _centred(x, x_zero, 1),
        _centred(w, w_zero, 0),
        group=group,
        **attributes,
    )
    return whole.astype(np.int64).astype(np.int32)


@operator("QLinearMatMul", since=(10, 21))
def qlinear_matmul(
    a: np.ndarray,
    a_scale: np.ndarray,
    a_zero: np.ndarray,
    b: np.ndarray,
    b_scale: np.ndarray,
    b_zero: np.ndarray,
    y_scale: np.ndarray,
    y_zero: np.ndarray,
) -> np.ndarray:
    """Return the quantized product of quantized matrices."""
    product = np.matmul(_centred(a, a_zero, -2), _centred(b, b_zero, -1))
    rows, columns = _lined(a_scale, -2), _lined(b_scale, -1)
    real = product * (rows * columns) / _lined(y_scale, -2)
    return _rounded(np.asarray(real), _lined(y_zero.astype(np.float64), -2), y_zero.dtype)


def _lined(parameter: np.ndarray, axis: int) -> np.ndarray:
    if parameter.size == 1:
        return parameter.reshape(())
    if parameter.ndim > 1:
        return parameter
    return parameter.reshape((-1, 1) if axis == -2 else (1, -1))


@operator("QLinearConv", since=(10,), shared=WindowAttributes)
def qlinear_conv(
    x: np.ndarray,
    x_scale: np.ndarray,
    x_zero: np.ndarray,
    w: np.ndarray,
    w_scale: np.ndarray,
    w_zero: np.ndarray,
    y_scale: np.ndarray,
    y_zero: np.ndarray,
    b: np.ndarray | None = None,
    *,
    group: int = 1,
    **attributes: Unpack[WindowAttributes],
) -> np.ndarray:
    """Return the quantized convolution of quantized tensors, with scales per channel of w."""
    whole = conv(
        _centred(x, x_zero, 1),
        _centred(w, w_zero, 0),
        None if b is None else b.astype(np.float64),
        group=group,
        **attributes,
    )
    factor = x_scale.reshape(()) * w_scale / y_scale.reshape(())
    per_channel = (
        factor.reshape(-1, *(1,) * (x.ndim - 2)) if factor.size > 1 else factor.reshape(())
    )
    return _rounded(whole * per_channel, float(y_zero.reshape(())), y_zero.dtype)

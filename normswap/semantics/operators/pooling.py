"""Pooling by its taps: one pass over the array for each position of the kernel.

Source: ONNX operators of these names.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normswap.semantics.operators.windows import Window, WindowAttributes
from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack


@operator("AveragePool", since=(1, 7, 10, 11, 19, 22), shared=WindowAttributes)
def average_pool(
    x: np.ndarray,
    *,
    kernel_shape: Sequence[int],
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    **attributes: Unpack[WindowAttributes],
) -> np.ndarray:
    """Average windows of x (N, C, *spatial); what `ceil_mode` adds at the end never counts."""
    window = Window.over(x.shape[2:], kernel_shape, ceil_mode=ceil_mode, **attributes)
    counted = np.ones((1, 1, *x.shape[2:]))
    if count_include_pad:
        widths = [(0, 0), (0, 0), *zip(window.begin, window.end, strict=True)]
        counted = np.pad(counted, widths, constant_values=1.0)
        counts = _sum(_fit(counted, window), window)
    else:
        counts = _sum(window.pad(counted, 0.0), window)
    return _sum(window.pad(x, 0.0), window) / counts


def _fit(counted: np.ndarray, window: Window) -> np.ndarray:
    """Return counts, already padded at the beginning, with room for every window at the end."""
    unpadded = Window(
        window.kernel,
        window.strides,
        window.dilations,
        (0,) * len(window.begin),
        window.end,
        window.output,
    )
    return unpadded.pad(counted, 0.0)


def _sum(padded: np.ndarray, window: Window) -> np.ndarray:
    total = np.zeros((*padded.shape[:2], *window.output))
    for _, slices in window.taps():
        total += padded[slices]
    return total


@operator("MaxPool", since=(1, 8, 10, 11, 12, 22), shared=WindowAttributes)
def max_pool(
    x: np.ndarray,
    *,
    kernel_shape: Sequence[int],
    ceil_mode: int = 0,
    storage_order: int = 0,
    n_outputs: int = 1,
    **attributes: Unpack[WindowAttributes],
) -> tuple[np.ndarray, ...]:
    """Return the maxima of windows of x (N, C, *spatial), and where in x they are.

    Padding is less than anything; places are those of the flat array, or with `storage_order` of
    one with its spatial axes in reverse order.
    """
    window = Window.over(x.shape[2:], kernel_shape, ceil_mode=ceil_mode, **attributes)
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    padded = window.pad(x, lowest)
    y = np.full((*x.shape[:2], *window.output), lowest, x.dtype)
    if n_outputs == 1:
        for _, slices in window.taps():
            np.maximum(y, padded[slices], out=y)
        return (y,)
    places = window.pad(_places(x.shape, reverse=bool(storage_order)), -1)
    at = np.full(y.shape, -1, np.int64)
    for _, slices in window.taps():
        better = (padded[slices] > y) | ((at < 0) & (places[slices] >= 0))
        y = np.where(better, padded[slices], y)
        at = np.where(better, places[slices], at)
    return y, at


def _places(shape: Sequence[int], *, reverse: bool) -> np.ndarray:
    """Return for every element its place in the flat array."""
    spatial = np.arange(math.prod(shape[2:]))
    order = "F" if reverse else "C"
    offsets = np.arange(shape[0] * shape[1]).reshape(*shape[:2], *(1,) * (len(shape) - 2))
    return offsets * spatial.size + spatial.reshape(shape[2:], order=order)  # type: ignore[call-overload]


@operator("MaxUnpool", since=(9, 11, 22))
def max_unpool(
    x: np.ndarray,
    places: np.ndarray,
    output_shape: np.ndarray | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> np.ndarray:
    """Return 0 everywhere but at places of the flat result, where x is.

    Raises
    ------
    ValueError
        If there is an output_shape: whether places are counted in it or in the shape that is
        inferred is seen in both ways.
    """
    if output_shape is not None:
        raise ValueError("it has an output_shape, for which its indices are ambiguous")
    rank = x.ndim - 2
    steps, widths = strides or (1,) * rank, pads or (0,) * (2 * rank)
    sizes = [
        (x.shape[2 + i] - 1) * steps[i] + kernel_shape[i] - widths[i] - widths[rank + i]
        for i in range(rank)
    ]
    y = np.zeros((*x.shape[:2], *sizes), x.dtype)
    y.reshape(-1)[places.reshape(-1)] = x.reshape(-1)
    return y


@operator("LpPool", since=(1, 2, 11, 18, 22), shared=WindowAttributes)
def lp_pool(
    x: np.ndarray,
    *,
    kernel_shape: Sequence[int],
    ceil_mode: int = 0,
    p: float = 2,
    **attributes: Unpack[WindowAttributes],
) -> np.ndarray:
    """Return the p-norms of windows of x (N, C, *spatial)."""
    window = Window.over(x.shape[2:], kernel_shape, ceil_mode=ceil_mode, **attributes)
    return _sum(window.pad(np.abs(x) ** p, 0.0), window) ** (1 / p)


def _spatial(x: np.ndarray) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@operator("GlobalAveragePool", since=(1, 22))
def global_average_pool(x: np.ndarray) -> np.ndarray:
    """Return the mean of every channel of x (N, C, *spatial)."""
    return x.mean(axis=_spatial(x), keepdims=True)


@operator("GlobalMaxPool", since=(1, 22))
def global_max_pool(x: np.ndarray) -> np.ndarray:
    """Return the maximum of every channel of x (N, C, *spatial)."""
    return x.max(axis=_spatial(x), keepdims=True)


@operator("GlobalLpPool", since=(1, 2, 22))
def global_lp_pool(x: np.ndarray, *, p: float = 2) -> np.ndarray:
    """Return the p-norm of every channel of x (N, C, *spatial)."""
    return np.sum(np.abs(x) ** p, axis=_spatial(x), keepdims=True) ** (1 / p)

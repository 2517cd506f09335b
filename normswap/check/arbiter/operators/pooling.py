"""Pooling by its taps: one pass over the array for each position of the kernel.

Source: ONNX operators AveragePool-22, MaxPool-22.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.check.arbiter.operators.windows import Window
from normswap.check.arbiter.registry import Unhandled, operator

if TYPE_CHECKING:
    from collections.abc import Sequence


@operator("AveragePool")
def average_pool(
    x: np.ndarray,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> np.ndarray:
    """Average windows of x (N, C, *spatial); what `ceil_mode` adds at the end never counts."""
    window = Window.over(
        x.shape[2:],
        kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
    )
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


@operator("MaxPool")
def max_pool(
    x: np.ndarray,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    n_outputs: int = 1,
) -> np.ndarray:
    """Return the maxima of windows of x (N, C, *spatial); padding is minus infinity."""
    if n_outputs > 1 or x.dtype != np.float64:
        raise Unhandled
    window = Window.over(
        x.shape[2:],
        kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
    )
    padded = window.pad(x, -np.inf)
    y = np.full((*x.shape[:2], *window.output), -np.inf)
    for _, slices in window.taps():
        np.maximum(y, padded[slices], out=y)
    return y

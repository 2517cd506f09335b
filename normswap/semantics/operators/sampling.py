"""Sampling at places that are computed: grids, deformed convolutions, columns put back.

Source: ONNX operators GridSample-16 to -22, AffineGrid-20, Col2Im-18, DeformConv-19 and -22.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Sequence


@operator("GridSample", since=(16, 20, 22))
def grid_sample(
    x: np.ndarray,
    grid: np.ndarray,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> np.ndarray:
    """Return x (N, C, *spatial) at the places of a grid (N, *output, rank), last axis first.

    -1 and 1 are the outer edges of the outer pixels, or with `align_corners` their middles.
    """
    rank = x.ndim - 2
    sizes = x.shape[2:]
    taps = []
    for axis in range(rank):
        g, size = grid[..., rank - 1 - axis], sizes[axis]
        at = (g + 1) / 2 * (size - 1) if align_corners else ((g + 1) * size - 1) / 2
        taps.append(list(_taps(at, mode)))
    y = np.zeros((x.shape[0], x.shape[1], *grid.shape[1:-1]))
    batch = np.arange(x.shape[0]).reshape(-1, *(1,) * rank)
    for corner in itertools.product(*taps):
        weight: Any = 1.0
        places = []
        for (index, factor), size in zip(corner, sizes, strict=True):
            place, inside = _within(index, size, padding_mode, align=bool(align_corners))
            places.append(place)
            weight = weight * factor * inside
        here: Any = (batch, slice(None), *places)
        picked = x[here]  # the channels come last
        y += np.moveaxis(picked * weight[..., None], -1, 1)
    return y


def _taps(at: np.ndarray, mode: str) -> list[tuple[np.ndarray, Any]]:
    """Return the neighbours of places along an axis, with their weights."""
    if mode == "nearest":
        return [(np.rint(at), 1.0)]
    floor = np.floor(at)
    t = at - floor
    if mode in {"linear", "bilinear"}:
        return [(floor, 1 - t), (floor + 1, t)]
    a = -0.75
    weights = []
    for offset in (-1, 0, 1, 2):
        d = np.abs(t - offset)
        near = ((a + 2) * d - (a + 3)) * d**2 + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        weights.append((floor + offset, np.where(d <= 1, near, far)))
    return weights


def _within(
    index: np.ndarray, size: int, padding: str, *, align: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices within an axis, and 1 or 0 for whether they count."""
    counts = np.ones(index.shape)
    if padding == "zeros":
        counts = ((index >= 0) & (index < size)).astype(np.float64)
    elif padding == "reflection":
        low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
        span = high - low
        if span > 0:
            off = np.mod(index - low, 2 * span)
            index = low + np.minimum(off, 2 * span - off)
    return np.clip(np.rint(index), 0, size - 1).astype(np.int64), counts


@operator("AffineGrid", since=(20,))
def affine_grid(theta: np.ndarray, size: np.ndarray, *, align_corners: int = 0) -> np.ndarray:
    """Return the grid (N, *spatial, rank) of an affine theta (N, rank, rank + 1)."""
    spatial = [int(s) for s in size][2:]
    axes = []
    for length in spatial:
        at = np.arange(length, dtype=np.float64)
        if align_corners:
            if length == 1:
                raise ValueError("align_corners is not defined for a size of 1")
            axes.append(2 * at / (length - 1) - 1)
        else:
            axes.append((2 * at + 1) / length - 1)
    mesh = np.meshgrid(*axes, indexing="ij")[::-1]
    points = np.stack([*mesh, np.ones(spatial)], axis=-1)
    return np.einsum("...k,nrk->n...r", points, theta)


@operator("Col2Im", since=(18,))
def col2im(
    x: np.ndarray,
    image: np.ndarray,
    block: np.ndarray,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> np.ndarray:
    """Return (N, C, *image): every column of x (N, C * block, positions) added at its place."""
    sizes, kernel = [int(s) for s in image], [int(k) for k in block]
    rank = len(sizes)
    steps, gaps = strides or (1,) * rank, dilations or (1,) * rank
    widths = pads or (0,) * (2 * rank)
    full = [size + widths[i] + widths[rank + i] for i, size in enumerate(sizes)]
    counts = [(full[i] - gaps[i] * (kernel[i] - 1) - 1) // steps[i] + 1 for i in range(rank)]
    columns = x.reshape(x.shape[0], -1, *kernel, *counts)
    canvas = np.zeros((x.shape[0], columns.shape[1], *full), x.dtype)
    for tap in np.ndindex(*kernel):
        here = tuple(
            slice(t * g, t * g + (n - 1) * s + 1, s)
            for t, g, n, s in zip(tap, gaps, counts, steps, strict=True)
        )
        canvas[(slice(None), slice(None), *here)] += columns[(slice(None), slice(None), *tap)]
    crop = tuple(slice(widths[i], widths[i] + size) for i, size in enumerate(sizes))
    return canvas[(slice(None), slice(None), *crop)]


@operator("DeformConv", since=(19, 22))
def deform_conv(
    x: np.ndarray,
    w: np.ndarray,
    offset: np.ndarray,
    b: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    *,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    offset_group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> np.ndarray:
    """Convolve x (N, C, H, W), every tap of the kernel moved by its own offset, at its own mask."""
    kernel = tuple(kernel_shape or w.shape[2:])
    steps, gaps, widths = strides or (1, 1), dilations or (1, 1), pads or (0, 0, 0, 0)
    n, c = x.shape[:2]
    rows, columns = offset.shape[2:]
    taps = math.prod(kernel)
    moves = offset.reshape(n, offset_group, taps, 2, rows, columns)
    masks = np.ones((n, offset_group, taps, rows, columns))
    if mask is not None:
        masks = mask.reshape(masks.shape)
    batch = np.arange(n).reshape(-1, 1, 1)
    patches = np.zeros((n, c, taps, rows, columns))
    for number, tap in enumerate(np.ndindex(*kernel)):
        for g in range(offset_group):
            channels = slice(g * c // offset_group, (g + 1) * c // offset_group)
            sides = []
            for axis, count in enumerate((rows, columns)):
                start = np.arange(count) * steps[axis] - widths[axis] + tap[axis] * gaps[axis]
                start = start.reshape((-1, 1) if axis == 0 else (1, -1))
                sides.append(_taps(start + moves[:, g, number, axis], "linear"))
            for (row, down), (column, across) in itertools.product(*sides):
                i, in_rows = _within(row, x.shape[2], "zeros", align=False)
                j, in_columns = _within(column, x.shape[3], "zeros", align=False)
                weight = down * across * in_rows * in_columns * masks[:, g, number]
                picked = x[:, channels][batch, :, i, j] * weight[..., None]
                patches[:, channels, number] += np.moveaxis(picked, -1, 1)
    grouped = patches.reshape(n, group, c // group, taps, rows, columns)
    kernels = w.reshape(group, w.shape[0] // group, c // group, taps)
    y = np.einsum("ngctrs,gmct->ngmrs", grouped, kernels).reshape(n, -1, rows, columns)
    return y if b is None else y + b.reshape(-1, 1, 1)

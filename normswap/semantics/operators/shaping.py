"""Operators that put the values of one array into another shape or order.

Source: ONNX operators of these names.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Sequence


def _integers(values: Any) -> list[int]:
    return [int(v) for v in np.asarray(values).reshape(-1)]


@operator("Identity", since=(1, 13, 14, 16, 19, 21, 23, 24, 25), moves=True)
def identity(x: Any) -> Any:
    """Return the value, a tensor or a sequence."""
    return x


@operator("Reshape", since=(1, 5, 13, 14, 19, 21, 23, 24, 25), moves=True)
def reshape(
    x: np.ndarray,
    wanted: np.ndarray | None = None,
    *,
    shape: Sequence[int] | None = None,
    allowzero: int = 0,
) -> np.ndarray:
    """Return the values under another shape; 0 keeps a size unless `allowzero`, -1 is inferred."""
    sizes = _integers(shape if wanted is None else wanted)
    if not allowzero:
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten", since=(1, 9, 11, 13, 21, 23, 24, 25), moves=True)
def flatten(x: np.ndarray, *, axis: int = 1) -> np.ndarray:
    """Return a matrix: axes before `axis`, and those from it on."""
    start = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:start]), math.prod(x.shape[start:]))


@operator("Squeeze", since=(1, 11, 13, 21, 23, 24, 25), moves=True)
def squeeze(
    x: np.ndarray, given: np.ndarray | None = None, *, axes: Sequence[int] | None = None
) -> np.ndarray:
    """Return x without some of its axes of size 1, or without all of them."""
    chosen = axes if given is None else given
    if chosen is None:
        return np.squeeze(x)
    return np.squeeze(x, tuple({axis % x.ndim for axis in _integers(chosen)}))


@operator("Unsqueeze", since=(1, 11, 13, 21, 23, 24, 25), moves=True)
def unsqueeze(
    x: np.ndarray, given: np.ndarray | None = None, *, axes: Sequence[int] | None = None
) -> np.ndarray:
    """Return x with axes of size 1 at these places *of the result*, in whatever order they are."""
    return np.expand_dims(x, tuple(_integers(axes if given is None else given)))


@operator("Transpose", since=(1, 13, 21, 23, 24, 25), moves=True)
def transpose(x: np.ndarray, *, perm: Sequence[int] | None = None) -> np.ndarray:
    """Return x with its axes in another order, by default reversed."""
    return np.transpose(x, perm)


@operator("Expand", since=(8, 13), moves=True)
def expand(x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return x broadcast with a shape; where the shape has 1, x keeps its own size."""
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(_integers(shape)))).copy()


@operator("Tile", since=(6, 13), moves=True)
def tile(x: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    """Return x, repeated along every axis."""
    return np.tile(x, _integers(repeats))


@operator("Concat", since=(1, 4, 11, 13), moves=True)
def concat(*arrays: np.ndarray, axis: int = 1) -> np.ndarray:
    """Return arrays one after another along an axis."""
    return np.concatenate(arrays, axis=axis)


@operator("Split", since=(1, 2, 11, 13, 18), moves=True)
def split(
    x: np.ndarray,
    sizes: np.ndarray | None = None,
    *,
    axis: int = 0,
    split: Sequence[int] | None = None,
    num_outputs: int | None = None,
    n_outputs: int,
) -> tuple[np.ndarray, ...]:
    """Return parts of x along an axis, in given sizes or equal ones but for the last."""
    given = split if sizes is None else sizes
    if given is None:
        parts = num_outputs or n_outputs
        step = -(-x.shape[axis] // parts)
        ends = [min(step * (i + 1), x.shape[axis]) for i in range(parts - 1)]
    else:
        ends = [int(end) for end in np.cumsum(_integers(given))[:-1]]
    return tuple(np.split(x, ends, axis=axis))


@operator("Slice", since=(1, 10, 11, 13), moves=True)
def slice_(
    x: np.ndarray,
    first: np.ndarray | None = None,
    last: np.ndarray | None = None,
    along: np.ndarray | None = None,
    steps: np.ndarray | None = None,
    *,
    starts: Sequence[int] = (),
    ends: Sequence[int] = (),
    axes: Sequence[int] | None = None,
) -> np.ndarray:
    """Return every `step`-th element from `first` to before `last`, either way, along axes."""
    begins = _integers(starts if first is None else first)
    stops = _integers(ends if last is None else last)
    given = axes if along is None else along
    chosen = range(len(begins)) if given is None else _integers(given)
    strides = [1] * len(begins) if steps is None else _integers(steps)
    index: list[Any] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(begins, stops, chosen, strides, strict=True):
        size = x.shape[axis]
        if size == 0:
            continue
        begin, stop = (bound + size if bound < 0 else bound for bound in (start, end))
        if step > 0:
            begin, stop = max(0, min(size, begin)), max(0, min(size, stop))
        else:  # it begins at an element, however far out it was asked to; NumPy would find none
            begin, stop = max(0, min(size - 1, begin)), max(-1, min(size - 1, stop))
        index[axis] = np.arange(begin, stop, step) if step != 1 else slice(begin, stop)
        x = x[tuple(index)]
        index[axis] = slice(None)
    return x


@operator("Pad", since=(1, 2, 11, 13, 18, 19, 21, 23, 24, 25), moves=True)
def pad(
    x: np.ndarray,
    widths: np.ndarray | None = None,
    constant: np.ndarray | None = None,
    along: np.ndarray | None = None,
    *,
    mode: str = "constant",
    paddings: Sequence[int] = (),
    pads: Sequence[int] = (),
    value: float = 0.0,
) -> np.ndarray:
    """Return x with elements added before and after along axes, or taken away where negative.

    What a negative width takes away is gone before anything is added.
    """
    given = _integers((pads or paddings) if widths is None else widths)
    axes = range(x.ndim) if along is None else [axis % x.ndim for axis in _integers(along)]
    half = len(given) // 2
    cut: list[Any] = [slice(None)] * x.ndim
    added = [(0, 0)] * x.ndim
    for position, axis in enumerate(axes):
        before, after = given[position], given[half + position]
        cut[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
        added[axis] = (max(before, 0), max(after, 0))
    kept = x[tuple(cut)]
    if mode != "constant":
        # Some need more than NumPy's modes, which go round as often as it takes.
        return np.pad(kept, added, mode=mode)  # type: ignore[call-overload]
    fill = np.asarray(value if constant is None else constant).reshape(()).astype(x.dtype)
    return np.pad(kept, added, constant_values=fill)


@operator("Shape", since=(1, 13, 15, 19, 21, 23, 24, 25), moves=True)
def shape_of(x: np.ndarray, *, start: int = 0, end: int | None = None) -> np.ndarray:
    """Return the sizes of x, or of a slice of its axes."""
    return np.array(x.shape[start:end], np.int64)


@operator("Size", since=(1, 13, 19, 21, 23, 24, 25), moves=True)
def size_of(x: np.ndarray) -> np.ndarray:
    """Return how many elements x has."""
    return np.array(x.size, np.int64)


@operator("ConstantOfShape", since=(9, 20, 21, 23, 24, 25), moves=True)
def constant_of_shape(shape: np.ndarray, *, value: np.ndarray | None = None) -> np.ndarray:
    """Return an array of one value, by default float32 0."""
    fill = np.zeros(1, np.float32) if value is None else value
    return np.full(_integers(shape), fill.reshape(()), fill.dtype)


@operator("DepthToSpace", since=(1, 11, 13, 28), moves=True)
def depth_to_space(x: np.ndarray, *, blocksize: int, mode: str = "DCR") -> np.ndarray:
    """Return (N, C/b², H*b, W*b) of (N, C, H, W)."""
    n, c, h, w = x.shape
    b, d = blocksize, c // blocksize**2
    if mode == "DCR":
        y = x.reshape(n, b, b, d, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, d, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(n, d, h * b, w * b)


@operator("SpaceToDepth", since=(1, 13, 28), moves=True)
def space_to_depth(x: np.ndarray, *, blocksize: int, mode: str = "DCR") -> np.ndarray:
    """Return (N, C*b², H/b, W/b) of (N, C, H, W)."""
    n, c, h, w = x.shape
    b = blocksize
    y = x.reshape(n, c, h // b, b, w // b, b)
    y = y.transpose((0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4))
    return y.reshape(n, c * b * b, h // b, w // b)


@operator("Trilu", since=(14,), moves=True)
def trilu(x: np.ndarray, k: np.ndarray | None = None, *, upper: int = 1) -> np.ndarray:
    """Return the upper or lower triangle of matrices, the rest 0."""
    offset = 0 if k is None else int(np.asarray(k).reshape(()))
    rows, columns = np.indices(x.shape[-2:])
    keep = columns - rows >= offset if upper else columns - rows <= offset
    return np.where(keep, x, np.zeros((), x.dtype))


@operator("ReverseSequence", since=(10, 28), moves=True)
def reverse_sequence(
    x: np.ndarray, lengths: np.ndarray, *, batch_axis: int = 1, time_axis: int = 0
) -> np.ndarray:
    """Return x with the first `lengths` steps of every sequence reversed."""
    moved = np.moveaxis(x, (batch_axis, time_axis), (0, 1))
    y = moved.copy()
    for sample, length in enumerate(_integers(lengths)):
        y[sample, :length] = moved[sample, :length][::-1]
    return np.moveaxis(y, (0, 1), (batch_axis, time_axis))


@operator("CenterCropPad", since=(18,), moves=True)
def center_crop_pad(
    x: np.ndarray, sizes: np.ndarray, *, axes: Sequence[int] | None = None
) -> np.ndarray:
    """Return x, cropped or padded with 0 on both sides to given sizes."""
    chosen = range(x.ndim) if axes is None else axes
    for axis, size in zip(chosen, _integers(sizes), strict=True):
        excess = x.shape[axis] - size
        if excess > 0:
            x = np.take(x, np.arange(excess // 2, excess // 2 + size), axis=axis)
        else:
            widths = [(0, 0)] * x.ndim
            widths[axis] = (-excess // 2, -excess - -excess // 2)
            x = np.pad(x, widths)
    return x

"""Operators that read and write at places that a tensor names.

Source: ONNX operators of these names.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.semantics.operators.casting import cast
from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_WRITES: Mapping[str, Any] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


@operator("Gather", since=(1, 11, 13), moves=True)
def gather(x: np.ndarray, indices: np.ndarray, *, axis: int = 0) -> np.ndarray:
    """Return slices of x along an axis; negative indices count from the end."""
    return np.take(x, indices, axis=axis)


@operator("GatherElements", since=(11, 13), moves=True)
def gather_elements(x: np.ndarray, indices: np.ndarray, *, axis: int = 0) -> np.ndarray:
    """Return an element for every index, taken at the index's own place but for one axis."""
    return x[_places(indices, axis, x.shape)]


def _places(indices: np.ndarray, axis: int, shape: Sequence[int]) -> tuple[np.ndarray, ...]:
    at: list[np.ndarray] = list(np.indices(indices.shape, sparse=True))
    along = axis % len(shape)
    at[along] = np.where(indices < 0, indices + shape[along], indices)
    return tuple(at)


@operator("GatherND", since=(11, 12, 13), moves=True)
def gather_nd(x: np.ndarray, indices: np.ndarray, *, batch_dims: int = 0) -> np.ndarray:
    """Return slices of x at index tuples, batch by batch."""
    batch = x.shape[:batch_dims]
    flat = x.reshape(math.prod(batch), *x.shape[batch_dims:])
    tuples = indices.reshape(math.prod(batch), *indices.shape[batch_dims:])
    rows = [part[tuple(np.moveaxis(at, -1, 0))] for part, at in zip(flat, tuples, strict=True)]
    y = np.stack(rows)
    return y.reshape((*batch, *y.shape[1:]))


@operator("ScatterElements", since=(11, 13, 16, 18))
def scatter_elements(
    x: np.ndarray,
    indices: np.ndarray,
    updates: np.ndarray,
    *,
    axis: int = 0,
    reduction: str = "none",
) -> np.ndarray:
    """Return x with an update for every index, at the index's own place but for one axis."""
    y = x.copy()
    _write(y, _places(indices, axis, x.shape), updates, reduction)
    return y


@operator("Scatter", since=(9,))
def scatter(
    x: np.ndarray, indices: np.ndarray, updates: np.ndarray, *, axis: int = 0
) -> np.ndarray:
    """Return what ScatterElements does, which took its place."""
    return scatter_elements(x, indices, updates, axis=axis)


@operator("ScatterND", since=(11, 13, 16, 18))
def scatter_nd(
    x: np.ndarray, indices: np.ndarray, updates: np.ndarray, *, reduction: str = "none"
) -> np.ndarray:
    """Return x with slices written at index tuples."""
    y = x.copy()
    _write(y, tuple(np.moveaxis(indices, -1, 0)), updates, reduction)
    return y


def _write(y: np.ndarray, at: tuple[np.ndarray, ...], updates: np.ndarray, reduction: str) -> None:
    if reduction == "none":
        y[at] = updates
    else:
        _WRITES[reduction].at(y, at, updates)


@operator("Compress", since=(9, 11, 28), moves=True)
def compress(x: np.ndarray, condition: np.ndarray, *, axis: int | None = None) -> np.ndarray:
    """Return the slices, or of the flat array the elements, where a condition holds."""
    return np.compress(condition, x, axis=axis)


@operator("NonZero", since=(9, 13), moves=True)
def non_zero(x: np.ndarray) -> np.ndarray:
    """Return the places (rank, count) of what is not 0."""
    if x.ndim == 0:
        return np.zeros((0, int(bool(x))), np.int64)
    return np.stack(np.nonzero(x)).astype(np.int64)


@operator("Unique", since=(11, 28), moves=True)
def unique(
    x: np.ndarray,
    *,
    axis: int | None = None,
    sorted: int = 1,  # noqa: A002 - the attribute's name
) -> tuple[np.ndarray, ...]:
    """Return unique elements or slices, their first places, the inverse, and the counts."""
    y, first, inverse, counts = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    inverse = inverse.reshape(-1)
    if not sorted:
        order = np.argsort(first)
        rank = np.argsort(order)
        y = np.take(y, order, axis=0 if axis is None else axis)
        first, counts, inverse = first[order], counts[order], rank[inverse]
    return y, *(v.astype(np.int64) for v in (first, inverse, counts))


@operator("OneHot", since=(9, 11, 28), moves=True)
def one_hot(
    indices: np.ndarray, depth: np.ndarray, values: np.ndarray, *, axis: int = -1
) -> np.ndarray:
    """Return `values` (off, on), on where an index says; an index out of range is on nowhere."""
    size = int(np.asarray(depth).reshape(()))
    whole = np.asarray(indices).astype(np.int64)
    whole = np.where((whole < 0) & (whole >= -size), whole + size, whole)
    along = axis % (indices.ndim + 1)
    places = np.arange(size).reshape(-1, *(1,) * (indices.ndim - along))
    on = np.expand_dims(whole, along) == places
    return np.where(on, values[1], values[0]).astype(values.dtype)


@operator("EyeLike", since=(9, 22))
def eye_like(x: np.ndarray, *, dtype: int | None = None, k: int = 0) -> np.ndarray:
    """Return a matrix of the shape of x with 1 on a diagonal."""
    rows, columns = x.shape
    y = np.eye(rows, columns, k=k)
    return y.astype(x.dtype) if dtype is None else cast(y, to=dtype)

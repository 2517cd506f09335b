"""Sequences: lists of arrays, of which none is changed in place.

Source: ONNX operators of these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Sequence


def _place(position: np.ndarray | None, default: int) -> int:
    return default if position is None else int(position.reshape(()))


@operator("SequenceConstruct", since=(11,))
def construct(*arrays: np.ndarray) -> list[np.ndarray]:
    """Return the sequence of some arrays."""
    return list(arrays)


@operator("SequenceEmpty", since=(11,))
def empty() -> list[np.ndarray]:
    """Return a sequence of nothing."""
    return []


@operator("SequenceLength", since=(11,))
def length(values: Sequence[Any]) -> np.ndarray:
    """Return how many there are."""
    return np.array(len(values), np.int64)


@operator("SequenceAt", since=(11,))
def at(values: Sequence[Any], position: np.ndarray) -> Any:
    """Return one of a sequence; negative positions count from its end."""
    return values[_place(position, 0)]


@operator("SequenceErase", since=(11,))
def erase(values: Sequence[Any], position: np.ndarray | None = None) -> list[Any]:
    """Return a sequence without one of it, by default the last."""
    place = _place(position, -1) % len(values)
    return [*values[:place], *values[place + 1 :]]


@operator("SequenceInsert", since=(11,))
def insert(
    values: Sequence[Any], value: np.ndarray, position: np.ndarray | None = None
) -> list[Any]:
    """Return a sequence with one more, before a position, by default at the end."""
    place = _place(position, len(values))
    place += len(values) if place < 0 else 0
    return [*values[:place], value, *values[place:]]


@operator("ConcatFromSequence", since=(11,))
def concat(values: Sequence[np.ndarray], *, axis: int, new_axis: int = 0) -> np.ndarray:
    """Return the arrays of a sequence, one after another along an axis, which may be new."""
    return np.stack(values, axis) if new_axis else np.concatenate(values, axis)


@operator("SplitToSequence", since=(11, 24))
def split(
    x: np.ndarray, sizes: np.ndarray | None = None, *, axis: int = 0, keepdims: int = 1
) -> list[np.ndarray]:
    """Return parts of x along an axis: single slices, equal parts, or parts of given sizes."""
    size = x.shape[axis]
    if sizes is None:
        parts = np.split(x, size, axis)
        return parts if keepdims else [np.squeeze(part, axis) for part in parts]
    if sizes.ndim == 0:
        return np.split(x, np.arange(int(sizes), size, int(sizes)), axis)
    return np.split(x, np.cumsum(sizes)[:-1], axis)

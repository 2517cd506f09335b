"""Operators on two arrays and more, element by element.

Until opset 6 the second operand broadcast to the first one only where an attribute said so, with
its axes lined up from the attribute ``axis`` on; since opset 7 both broadcast as in NumPy.

Source: ONNX operators of these names.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Callable


def _lined_up(
    a: np.ndarray, b: np.ndarray, axis: int | None, opset: int, broadcast: int
) -> np.ndarray:
    """Return the second operand with trailing axes of 1, as the attributes of old say."""
    if opset >= 7 or not broadcast or (b.size == 1 and axis is None):
        return b
    start = a.ndim - b.ndim if axis is None else axis % a.ndim
    return b.reshape(*b.shape, *(1,) * (a.ndim - start - b.ndim))


def _divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Divide; integers towards zero, as C does, without a detour by floats."""
    if a.dtype.kind not in "iu":
        return np.asarray(a / b)
    if a.dtype.kind == "u":
        return np.asarray(a // b)
    floored = a // b
    inexact = floored * b != a
    return np.asarray(floored + (inexact & ((a < 0) != (b < 0)))).astype(a.dtype)


def _power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a to the power of b, in the type of a whatever the type of b."""
    if a.dtype.kind in "iu" and (b.dtype.kind == "f" or (b < 0).any()):
        wide = np.power(a.astype(np.float64), b.astype(np.float64))
        return np.nan_to_num(np.trunc(wide)).astype(a.dtype)
    return np.asarray(np.power(a, b.astype(a.dtype)))


def _with_attributes(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def binary(
        a: np.ndarray,
        b: np.ndarray,
        *,
        axis: int | None = None,
        broadcast: int = 0,
        opset: int,
    ) -> np.ndarray:
        return np.asarray(function(a, _lined_up(a, b, axis, opset, broadcast)))

    return binary


_BINARY: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "Add": (np.add, (1, 6, 7, 13, 14)),
    "And": (np.logical_and, (1, 7)),
    "Div": (_divided, (1, 6, 7, 13, 14)),
    "Equal": (np.equal, (1, 7, 11, 13, 19)),
    "Greater": (np.greater, (1, 7, 9, 13)),
    "GreaterOrEqual": (np.greater_equal, (12, 16)),
    "Less": (np.less, (1, 7, 9, 13)),
    "LessOrEqual": (np.less_equal, (12, 16)),
    "Mul": (np.multiply, (1, 6, 7, 13, 14)),
    "Or": (np.logical_or, (1, 7)),
    "Pow": (_power, (1, 7, 12, 13, 15)),
    "Sub": (np.subtract, (1, 6, 7, 13, 14)),
    "Xor": (np.logical_xor, (1, 7)),
    "BitwiseAnd": (np.bitwise_and, (18,)),
    "BitwiseOr": (np.bitwise_or, (18,)),
    "BitwiseXor": (np.bitwise_xor, (18,)),
}

for _name, (_function, _since) in _BINARY.items():
    operator(_name, since=_since)(_with_attributes(_function))


@operator("Mod", since=(10, 13, 28))
def mod(a: np.ndarray, b: np.ndarray, *, fmod: int = 0) -> np.ndarray:
    """Return the remainder: with the sign of b, or by `fmod` with that of a."""
    return np.asarray(np.fmod(a, b) if fmod else np.mod(a, b))


@operator("BitShift", since=(11, 28))
def bit_shift(a: np.ndarray, b: np.ndarray, *, direction: str) -> np.ndarray:
    """Shift bits; those of a shift as wide as the type are gone."""
    return np.asarray(np.left_shift(a, b) if direction == "LEFT" else np.right_shift(a, b))


@operator("Max", since=(1, 6, 8, 12, 13))
def maximum(*arrays: np.ndarray) -> np.ndarray:
    """Return the largest; NaN where one is."""
    return np.asarray(functools.reduce(np.maximum, arrays))


@operator("Min", since=(1, 6, 8, 12, 13))
def minimum(*arrays: np.ndarray) -> np.ndarray:
    """Return the smallest; NaN where one is."""
    return np.asarray(functools.reduce(np.minimum, arrays))


@operator("Sum", since=(1, 6, 8, 13))
def total(*arrays: np.ndarray) -> np.ndarray:
    """Return the sum."""
    return np.asarray(functools.reduce(np.add, arrays))


@operator("Mean", since=(1, 6, 8, 13))
def mean(*arrays: np.ndarray) -> np.ndarray:
    """Return the sum, divided by how many there are."""
    return total(*arrays) / len(arrays)


@operator("Where", since=(9, 16))
def where(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a where the condition holds, else b."""
    return np.where(condition, a, b)


@operator("Clip", since=(1, 6, 11, 12, 13))
def clip(
    x: np.ndarray,
    lowest: np.ndarray | None = None,
    highest: np.ndarray | None = None,
    *,
    min: float | None = None,  # noqa: A002 - the attribute's name
    max: float | None = None,  # noqa: A002
) -> np.ndarray:
    """Return ``min(max(x, lowest), highest)``: where they cross, the highest wins."""
    below, above = (min if lowest is None else lowest), (max if highest is None else highest)
    if below is not None:
        x = np.maximum(x, np.asarray(below).astype(x.dtype))
    if above is not None:
        x = np.minimum(x, np.asarray(above).astype(x.dtype))
    return np.asarray(x)


@operator("Range", since=(11, 27))
def arange(start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Return ``start + i * delta`` for every i from 0 on that stays short of the limit."""
    first, last, step = (np.asarray(v).reshape(()) for v in (start, limit, delta))
    count = max(int(np.ceil((last.astype(np.float64) - first) / step)), 0)
    return np.asarray(first + np.arange(count) * step).astype(first.dtype)

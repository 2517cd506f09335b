"""Softmax and its relatives, which changed at opset 13.

Before it, an input was seen as a matrix, of which the rows are normalized: all axes from `axis` on
(by default 1) are one. Since it, they normalize along one axis, by default the last.

Source: ONNX operators Softmax-1, -11 and -13, and LogSoftmax and Hardmax of the same opsets.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Callable

_SINCE = (1, 11, 13)


def _along(
    function: Callable[[np.ndarray, int], np.ndarray], x: np.ndarray, axis: int | None, opset: int
) -> np.ndarray:
    """Apply a function of (array, axis) as an opset says."""
    if x.size == 0:
        return x
    if opset >= 13:
        return function(x, -1 if axis is None else axis)
    start = 1 if axis is None else axis
    start += x.ndim if start < 0 else 0
    return function(x.reshape(math.prod(x.shape[:start]), -1), 1).reshape(x.shape)


def _softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    x = x - x.max(axis=axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


def _hardmax(x: np.ndarray, axis: int) -> np.ndarray:
    y = np.zeros_like(x)
    np.put_along_axis(y, np.expand_dims(x.argmax(axis=axis), axis), 1, axis)
    return y


@operator("Softmax", since=_SINCE)
def softmax(x: np.ndarray, *, axis: int | None = None, opset: int) -> np.ndarray:
    """Return ``exp(x) / sum(exp(x))``."""
    return _along(_softmax, x, axis, opset)


@operator("LogSoftmax", since=_SINCE)
def log_softmax(x: np.ndarray, *, axis: int | None = None, opset: int) -> np.ndarray:
    """Return ``x - log(sum(exp(x)))``."""
    return _along(_log_softmax, x, axis, opset)


@operator("Hardmax", since=_SINCE)
def hardmax(x: np.ndarray, *, axis: int | None = None, opset: int) -> np.ndarray:
    """Return 1 at the first of the largest, 0 elsewhere."""
    return _along(_hardmax, x, axis, opset)

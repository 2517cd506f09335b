"""Reductions along axes, and what else works along an axis.

Axes are an attribute until opset 17 (ReduceSum: 12), an input from then on; none mean all, or
nothing at all with ``noop_with_empty_axes``, where what is done to single elements still is.

Source: ONNX operators of these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _log_sum_exp(x: np.ndarray, **along: Any) -> np.ndarray:
    largest = np.max(x, axis=along["axis"], keepdims=True, initial=-np.inf)
    largest = np.where(np.isfinite(largest), largest, 0.0)
    total = np.log(np.sum(np.exp(x - largest), axis=along["axis"], keepdims=True)) + largest
    return total if along["keepdims"] else total.reshape(np.sum(x, **along).shape)


def _mean(x: np.ndarray, **along: Any) -> np.ndarray:
    if x.dtype.kind == "f":
        return np.mean(x, **along)
    total = np.sum(x, **along)  # integers are divided towards zero
    count = x.size // max(np.asarray(total).size, 1)
    return np.trunc(total / max(count, 1)).astype(x.dtype)


def _largest(x: np.ndarray, **along: Any) -> np.ndarray:
    return np.max(x, initial=_bounds(x.dtype)[0], **along)


def _smallest(x: np.ndarray, **along: Any) -> np.ndarray:
    return np.min(x, initial=_bounds(x.dtype)[1], **along)


def _bounds(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the least and the greatest value of a type, which nothing at all reduces to."""
    if dtype.kind == "f":
        return -np.inf, np.inf
    return (False, True) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


_REDUCTIONS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "ReduceL1": (lambda x, **k: np.sum(np.abs(x), **k), (1, 11, 13, 18)),
    "ReduceL2": (lambda x, **k: np.sqrt(np.sum(np.square(x), **k)), (1, 11, 13, 18)),
    "ReduceLogSum": (lambda x, **k: np.log(np.sum(x, **k)), (1, 11, 13, 18, 28)),
    "ReduceLogSumExp": (_log_sum_exp, (1, 11, 13, 18, 28)),
    "ReduceMax": (_largest, (1, 11, 12, 13, 18, 20)),
    "ReduceMean": (_mean, (1, 11, 13, 18)),
    "ReduceMin": (_smallest, (1, 11, 12, 13, 18, 20)),
    "ReduceProd": (np.prod, (1, 11, 13, 18)),
    "ReduceSum": (np.sum, (1, 11, 13)),
    "ReduceSumSquare": (lambda x, **k: np.sum(np.square(x), **k), (1, 11, 13, 18)),
}


def _reduction(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def reduce(
        x: np.ndarray,
        given: np.ndarray | None = None,
        *,
        axes: Sequence[int] | None = None,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> np.ndarray:
        chosen = axes if given is None else given
        along: tuple[int, ...] | None
        if chosen is None or len(chosen) == 0:
            along = () if noop_with_empty_axes else None
        else:
            along = tuple(int(axis) for axis in chosen)
        return np.asarray(function(x, axis=along, keepdims=bool(keepdims))).astype(x.dtype)

    return reduce


for _name, (_function, _since) in _REDUCTIONS.items():
    operator(_name, since=_since)(_reduction(_function))


def _arg(x: np.ndarray, axis: int, *, keep: bool, last: bool) -> np.ndarray:
    found = np.flip(x, axis).argmax(axis=axis) if last else x.argmax(axis=axis)
    if last:
        found = x.shape[axis] - 1 - found
    return np.asarray(np.expand_dims(found, axis) if keep else found).astype(np.int64)


@operator("ArgMax", since=(1, 11, 12, 13))
def arg_max(
    x: np.ndarray, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
) -> np.ndarray:
    """Return where the largest is along an axis."""
    return _arg(x, axis, keep=bool(keepdims), last=bool(select_last_index))


@operator("ArgMin", since=(1, 11, 12, 13))
def arg_min(
    x: np.ndarray, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
) -> np.ndarray:
    """Return where the smallest is along an axis."""
    turned = ~x if x.dtype.kind in "iu" else -x  # ~x falls as x grows, and never overflows
    return _arg(turned, axis, keep=bool(keepdims), last=bool(select_last_index))


@operator("TopK", since=(1, 10, 11, 24))
def top_k(
    x: np.ndarray,
    count: np.ndarray | None = None,
    *,
    k: int = 0,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,  # noqa: A002, ARG001 - the attribute's name; sorted is one right order
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest or smallest along an axis and their places; of equals the first."""
    number = k if count is None else int(np.asarray(count).reshape(()))
    keys = x
    if largest:
        keys = ~x if x.dtype.kind in "iu" else -x
    order = np.argsort(keys, axis=axis, kind="stable").astype(np.int64)
    places = np.take(order, np.arange(number), axis=axis)
    return np.take_along_axis(x, places, axis), places


def _running(
    function: Any, x: np.ndarray, axis: np.ndarray, first: int, *, exclusive: int, reverse: int
) -> np.ndarray:
    """Accumulate along an axis, from either end, with or without the element itself."""
    along = int(np.asarray(axis).reshape(()))
    y = np.flip(x, along) if reverse else x
    y = function(y, axis=along, dtype=x.dtype)
    if exclusive:
        y = np.roll(y, 1, axis=along)
        place: list[Any] = [slice(None)] * x.ndim
        place[along] = slice(0, 1)
        y[tuple(place)] = first
    return np.flip(y, along) if reverse else y


@operator("CumSum", since=(11, 14))
def cum_sum(x: np.ndarray, axis: np.ndarray, *, exclusive: int = 0, reverse: int = 0) -> np.ndarray:
    """Return running sums."""
    return _running(np.cumsum, x, axis, 0, exclusive=exclusive, reverse=reverse)


@operator("CumProd", since=(26,))
def cum_prod(
    x: np.ndarray, axis: np.ndarray, *, exclusive: int = 0, reverse: int = 0
) -> np.ndarray:
    """Return running products."""
    return _running(np.cumprod, x, axis, 1, exclusive=exclusive, reverse=reverse)

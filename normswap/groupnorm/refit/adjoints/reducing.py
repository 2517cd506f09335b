"""Sums, means, maxima and pooling; softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.groupnorm.refit.adjoints.base import rule, summed_to
from normswap.semantics.operators.windows import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.groupnorm.refit.adjoints.base import Array, Pull, Step

_WINDOW = ("auto_pad", "dilations", "pads", "strides")


@rule(
    "GlobalAveragePool",
    "GlobalMaxPool",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "ReduceSumSquare",
    slots=[0],
)
def reduction(step: Step) -> Pull:
    """Return the pull of a reduction along axes."""
    x = step.given(0)
    kept = {} if step.op.startswith("Global") else {"keepdims": 1}
    wide = x.astype(np.float64)
    y = step.evaluate([wide, *step.inputs[1:]], **kept)[0]
    share: Array
    if step.op in {"ReduceMean", "GlobalAveragePool"}:
        share = np.full((1,) * x.ndim, y.size / max(x.size, 1))
    elif step.op == "ReduceSum":
        share = np.ones((1,) * x.ndim)
    elif step.op == "ReduceSumSquare":
        share = 2 * wide
    elif step.op == "ReduceL2":
        share = wide / np.where(y == 0, 1.0, y)
    else:  # of equals, each a part
        share = (wide == y).astype(np.float64)
        share /= np.maximum(summed_to(share, y.shape), 1.0)
    share, shape, kept_shape = share.astype(x.dtype), x.shape, y.shape

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        if g[0] is None:
            return {}
        return {0: np.broadcast_to(g[0].reshape(kept_shape) * share, shape)}

    return pull


@rule("AveragePool")
def average_pool(step: Step) -> Pull:
    """Return the pull of an average over windows: its part to each tap."""
    x, given = step.given(0), step.attributes
    how = {name: given[name] for name in (*_WINDOW, "ceil_mode") if name in given}
    window = Window.over(x.shape[2:], given["kernel_shape"], **how)
    ones = np.ones((1, 1, *x.shape[2:]))
    padded = window.pad(ones, 0.0)
    inside = sum(padded[slices] for _, slices in window.taps())
    share = step.evaluate([ones])[0] / np.maximum(inside, 1.0)  # 1 by how many are counted
    sizes, dtype = (*x.shape[:2], *padded.shape[2:]), x.dtype
    inner: Any = (..., *(slice(b, b + n) for b, n in zip(window.begin, x.shape[2:], strict=True)))

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        if g[0] is None:
            return {}
        part = (g[0] * share).astype(dtype)
        total = np.zeros(sizes, dtype)
        for _, slices in window.taps():
            total[slices] += part
        return {0: total[inner]}

    return pull


@rule("LogSoftmax", "Softmax")
def softmax(step: Step) -> Pull:
    """Return the pull of a softmax, or its logarithm."""
    y, given = step.made, step.attributes
    if step.opset >= 13:
        axes: tuple[int, ...] = (given.get("axis", -1),)
    else:
        axes = tuple(range(given.get("axis", 1) % y.ndim, y.ndim))
    of_logarithm = step.op == "LogSoftmax"

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        if g[0] is None:
            return {}
        if of_logarithm:
            return {0: g[0] - np.exp(y) * g[0].sum(axis=axes, keepdims=True)}
        return {0: y * (g[0] - (g[0] * y).sum(axis=axes, keepdims=True))}

    return pull

"""Operators that are linear in what comes to them, and in a weight."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normswap.groupnorm.refit.adjoints.base import rule, summed_to
from normswap.groupnorm.refit.products import Convolution, TransposedConvolution
from normswap.semantics.operators.windows import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.groupnorm.refit.adjoints.base import Array, Pull, Step

_WINDOW = ("auto_pad", "dilations", "pads", "strides")
_TRANSPOSED = (*_WINDOW, "output_padding", "output_shape")
HELD = 1 << 21
"""Elements of a convolution's columns, up to which they are held from pull to pull."""


@rule("MatMul")
def matmul(step: Step) -> Pull:
    """Return the pull of a matrix product, of which either operand may be a vector."""
    a, b = (np.ascontiguousarray(step.given(slot)) for slot in (0, 1))
    left = a[np.newaxis] if a.ndim == 1 else a
    right = b[:, np.newaxis] if b.ndim == 1 else b
    lead = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    shape = (*lead, left.shape[-2], right.shape[-1])

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        if g[0] is None:
            return {}
        found, y = {}, np.ascontiguousarray(g[0]).reshape(shape)
        if 0 in step.active:
            found[0] = summed_to(y @ right.swapaxes(-1, -2), left.shape).reshape(a.shape)
        if 1 in step.active:
            found[1] = summed_to(left.swapaxes(-1, -2) @ y, right.shape).reshape(b.shape)
        return found

    return pull


@rule("Gemm")
def gemm(step: Step) -> Pull:
    """Return the pull of ``alpha * A' B' + beta * C``."""
    given = step.attributes
    turned = bool(given.get("transA", 0)), bool(given.get("transB", 0))
    a, b = (v.T if t else v for v, t in zip(step.inputs[:2], turned, strict=True) if v is not None)
    alpha, beta = given.get("alpha", 1.0), given.get("beta", 1.0)

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        y = g[0]
        if y is None:
            return {}
        found = {}
        if 0 in step.active:
            found[0] = alpha * (b @ y.T if turned[0] else y @ b.T)
        if 1 in step.active:
            found[1] = alpha * (y.T @ a if turned[1] else a.T @ y)
        if 2 in step.active:
            found[2] = beta * summed_to(y, step.given(2).shape)
        return found

    return pull


@rule("Conv")
def conv(step: Step) -> Pull:
    """Return the pull of a convolution: every tap hands back to what it has read.

    Samples are innermost in what is added up (`innermost`), so that a few long rows are added and
    not many short ones.
    """
    x, w = step.given(0), step.given(1)
    group = int(step.attributes.get("group", 1))
    how = {name: step.attributes[name] for name in _WINDOW if name in step.attributes}
    window = Window.over(x.shape[2:], w.shape[2:], **how)
    product = Convolution(w.shape, group, how)
    padded = window.pad(x[:1, :1], 0.0).shape[2:]
    inner = tuple(slice(b, b + n) for b, n in zip(window.begin, x.shape[2:], strict=True))
    few = x.shape[1] * math.prod((*window.kernel, *window.output, len(x))) <= HELD
    columns = product.columns(x) if few and 1 in step.active else None
    taps = _taps(w.reshape(group, len(w) // group, w.shape[1], -1).swapaxes(1, 2))

    def back(rows: Array) -> Array:
        total = np.zeros((x.shape[1], *padded, len(x)), rows.dtype)
        for number, (_, slices) in enumerate(window.taps()):
            part = _mixed(taps[number], rows)
            total[slices[1:]] += part.reshape(x.shape[1], *window.output, len(x))
        return np.moveaxis(total[(slice(None), *inner)], -1, 0)

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        y = g[0]
        if y is None:
            return {}
        found: dict[int, Array] = {}
        rows = _rows(y).reshape(group, len(w) // group, -1)
        if 0 in step.active:
            found[0] = back(rows)
        if 1 in step.active:
            if columns is None:
                chunks = product.chunks(x, y, y.dtype.type)
                moment = sum(c @ r.swapaxes(1, 2) for c, r in chunks)
            else:
                moment = columns @ rows.swapaxes(1, 2)
            found[1] = product.weight(moment)
        if 2 in step.active:
            found[2] = rows.sum(axis=2).reshape(-1)
        return found

    return pull


@rule("ConvTranspose")
def conv_transpose(step: Step) -> Pull:
    """Return the pull of a transposed convolution: what each element has added to, by its taps."""
    x, w = step.given(0), step.given(1)
    group = int(step.attributes.get("group", 1))
    how = {name: step.attributes[name] for name in _TRANSPOSED if name in step.attributes}
    full, crop = TransposedConvolution(w.shape, group, how).canvas(x.shape[2:])
    rank = x.ndim - 2
    strides = tuple(how.get("strides") or (1,) * rank)
    dilations = tuple(how.get("dilations") or (1,) * rank)
    window = Window(w.shape[2:], strides, dilations, (0,) * rank, (0,) * rank, x.shape[2:])
    sizes = tuple(max(size, part.stop) for size, part in zip(full, crop, strict=True))
    taps = _taps(w.reshape(group, w.shape[0] // group, w.shape[1], -1))
    read = _rows(x).reshape(group, w.shape[0] // group, -1).swapaxes(1, 2)

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        y = g[0]
        if y is None:
            return {}
        canvas = np.zeros((y.shape[1], *sizes, len(y)), y.dtype)
        canvas[(slice(None), *crop)] = np.moveaxis(y, 0, -1)
        total = np.zeros((group, w.shape[0] // group, x[0, 0].size * len(x)), y.dtype)
        weight = np.zeros_like(taps)
        for number, (_, slices) in enumerate(window.taps()):
            rows = canvas[slices[1:]].reshape(group, w.shape[1], -1)
            if 0 in step.active:
                total += _mixed(taps[number], rows)
            if 1 in step.active:
                weight[number] = (rows @ read).swapaxes(1, 2)
        found: dict[int, Array] = {}
        if 0 in step.active:
            found[0] = np.moveaxis(total.reshape(x.shape[1], *x.shape[2:], len(x)), -1, 0)
        if 1 in step.active:
            found[1] = np.moveaxis(weight, 0, -1).reshape(w.shape)
        if 2 in step.active:
            found[2] = y.sum(axis=(0, *range(2, y.ndim)))
        return found

    return pull


def _taps(weight: Array) -> Array:
    """Return ``(G, A, B, T)`` as T matrices, each in one piece, as fast products need them."""
    return np.ascontiguousarray(np.moveaxis(weight, -1, 0))


def _mixed(matrix: Array, rows: Array) -> Array:
    """Return ``(G, A, B)`` times ``(..., G, B, L)``."""
    return matrix * rows if matrix.shape[2] == 1 else matrix @ rows


def _rows(y: Array) -> Array:
    """Return ``(N, M, *spatial)`` as ``(M, *spatial, N)``, in one piece."""
    return np.ascontiguousarray(np.moveaxis(y, 0, -1))

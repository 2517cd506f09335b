"""Conv by im2col and BLAS, ConvTranspose by its taps; any rank, groups, strides, dilations.

Source: ONNX operators Conv-22, ConvTranspose-22; com.microsoft FusedConv-1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.semantics.operators.activation import ACTIVATIONS
from normswap.semantics.operators.windows import Window, WindowAttributes
from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

_COLUMNS = 1 << 22  # elements of the im2col matrix at a time: 32 MiB


@operator("Conv", since=(1, 11, 22), shared=WindowAttributes)
def conv(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    group: int = 1,
    **attributes: Unpack[WindowAttributes],
) -> np.ndarray:
    """Convolve.

    Parameters
    ----------
    x : (N, C, *spatial)
    w : (M, C/group, *kernel)
    b : (M,), optional

    Returns
    -------
    (N, M, *output)
    """
    window = Window.over(x.shape[2:], w.shape[2:], **attributes)
    padded = window.pad(x, 0.0)
    y = _depthwise(padded, w, window) if w.shape[1] == 1 else _by_columns(padded, w, window, group)
    return y if b is None else y + b.reshape(-1, *(1,) * (x.ndim - 2))


def _depthwise(x: np.ndarray, w: np.ndarray, window: Window) -> np.ndarray:
    """Convolve channels one by one: w is (M, 1, *kernel), M a multiple of C."""
    times = w.shape[0] // x.shape[1]
    y = np.zeros((x.shape[0], w.shape[0], *window.output))
    ones = (1,) * len(window.kernel)
    flat = w.reshape(w.shape[0], -1)
    for number, (_, slices) in enumerate(window.taps()):
        part = x[slices]
        if times > 1:
            part = np.repeat(part, times, axis=1)
        y += part * flat[:, number].reshape(-1, *ones)
    return y


def _by_columns(x: np.ndarray, w: np.ndarray, window: Window, group: int) -> np.ndarray:
    n, c = x.shape[:2]
    m = w.shape[0]
    taps = int(np.prod(window.kernel))
    kernels = w.reshape(group, m // group, -1)
    y = np.empty((n, m, *window.output))
    if not window.output:  # a convolution without spatial axes is a matrix product
        columns = x.reshape(n, group, c // group, 1)
        return np.matmul(kernels, columns).reshape(n, m)
    rows = window.output[0]
    row = c * taps * int(np.prod(window.output[1:]))
    step = max(1, min(rows, _COLUMNS // max(row, 1)))
    windows = patches(x, window)
    every = (slice(None),) * (1 + len(window.kernel))
    for sample in range(n):
        for start in range(0, rows, step):
            here: Any = (*every, slice(start, start + step))
            part = windows[sample][here]
            columns = part.reshape(group, c // group * taps, -1)
            shape = (m, min(step, rows - start), *window.output[1:])
            y[sample][:, start : start + step] = np.matmul(kernels, columns).reshape(shape)
    return y


def patches(x: np.ndarray, window: Window) -> np.ndarray:
    """Return a view (N, C, *kernel, *output) of a padded array; nothing is copied."""
    spatial = x.strides[2:]
    taps = tuple(s * d for s, d in zip(spatial, window.dilations, strict=True))
    steps = tuple(s * d for s, d in zip(spatial, window.strides, strict=True))
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:2], *window.kernel, *window.output),
        (*x.strides[:2], *taps, *steps),
        writeable=False,
    )


@operator("ConvTranspose", since=(1, 11, 22), shared=WindowAttributes)
def conv_transpose(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    group: int = 1,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    **attributes: Unpack[WindowAttributes],
) -> np.ndarray:
    """Convolve, transposed: every element of `x` adds its kernel to the output.

    Parameters
    ----------
    x : (N, C, *spatial)
    w : (C, M/group, *kernel)
    b : (M,), optional

    Returns
    -------
    (N, M, *output)
    """
    rank = x.ndim - 2
    strides = tuple(attributes.get("strides") or (1,) * rank)
    dilations = tuple(attributes.get("dilations") or (1,) * rank)
    extra = tuple(output_padding or (0,) * rank)
    kernel = w.shape[2:]
    full = tuple(
        (x.shape[2 + i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1 for i in range(rank)
    )
    crop = crop_of(
        x.shape[2:],
        full,
        strides,
        extra,
        pads=attributes.get("pads"),
        auto_pad=attributes.get("auto_pad", "NOTSET"),
        output_shape=output_shape,
    )
    n, c = x.shape[:2]
    m = w.shape[1] * group
    sizes = (
        max(size + more, part.stop) for size, more, part in zip(full, extra, crop, strict=True)
    )
    canvas = np.zeros((n, m, *sizes))
    columns = x.reshape(n, group, c // group, -1)
    for tap in np.ndindex(*kernel):
        part = w[(slice(None), slice(None), *tap)].reshape(group, c // group, -1)
        added = np.matmul(part.transpose(0, 2, 1), columns).reshape(n, m, *x.shape[2:])
        slices = tuple(
            slice(t * d, t * d + (size - 1) * s + 1, s)
            for t, d, s, size in zip(tap, dilations, strides, x.shape[2:], strict=True)
        )
        canvas[(slice(None), slice(None), *slices)] += added
    y = canvas[(slice(None), slice(None), *crop)]
    return y if b is None else y + b.reshape(-1, *(1,) * rank)


def crop_of(
    spatial: Sequence[int],
    full: Sequence[int],
    strides: Sequence[int],
    extra: Sequence[int],
    *,
    pads: Sequence[int] | None,
    auto_pad: str,
    output_shape: Sequence[int] | None,
) -> tuple[slice, ...]:
    """Return what of the full result padding leaves, by the formulas of ConvTranspose."""
    rank = len(spatial)
    given = tuple(pads or (0,) * (2 * rank))
    slices = []
    for axis in range(rank):
        size = full[axis] + extra[axis]
        before, after = given[axis], given[rank + axis]
        if output_shape is not None or auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
            wanted = (
                output_shape[-rank:][axis]
                if output_shape is not None
                else spatial[axis] * strides[axis]
            )
            total = size - wanted
            if total < 0:  # more is wanted than there is: the rest is 0, at the end
                slices.append(slice(0, wanted))
                continue
            before = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            if auto_pad not in {"SAME_UPPER", "SAME_LOWER"}:
                before = total - total // 2
            after = total - before
        elif auto_pad == "VALID":
            before = after = 0
        if before < 0 or after < 0:
            raise ValueError("its pads are negative")
        slices.append(slice(before, size - after))
    return tuple(slices)


@operator("FusedConv", since=(1,), domain="com.microsoft", shared=WindowAttributes)
def fused_conv(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    z: np.ndarray | None = None,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    group: int = 1,
    **attributes: Unpack[WindowAttributes],
) -> np.ndarray:
    """Convolve, add `z` if there is one, and apply an activation."""
    y = conv(x, w, b, group=group, **attributes)
    if z is not None:
        y = y + z
    return ACTIVATIONS[activation](y, *activation_params) if activation else y

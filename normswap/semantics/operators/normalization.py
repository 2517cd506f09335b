"""Normalizations, each in float64 throughout and with the variance in two passes.

Source: ONNX operators of these names; com.microsoft SkipLayerNormalization-1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Sequence


def _per_channel(parameter: np.ndarray, x: np.ndarray) -> np.ndarray:
    return parameter.reshape(1, -1, *(1,) * (x.ndim - 2))


@operator("BatchNormalization", since=(1, 6, 7, 9, 14, 15))
def batch_normalization(
    x: np.ndarray,
    scale: np.ndarray,
    b: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    epsilon: float = 1e-5,
    is_test: int = 0,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
    n_outputs: int = 1,
    opset: int,
) -> tuple[np.ndarray, ...]:
    """Normalize x (N, C, *spatial) by given statistics, or in training by its own.

    Training is asked for by ``is_test=0`` until opset 6, by outputs beyond the first until 13, and
    by ``training_mode`` from then on. The running statistics are outputs then; until opset 13 the
    batch's own are two more. Without `spatial` (until opset 8) every element has statistics of
    its own: parameters (C, *spatial). Parameters (C,) are those of channels all the same.
    """
    by_channel = bool(spatial) or scale.ndim == 1
    trains = not is_test if opset < 7 else bool(training_mode) if opset >= 14 else n_outputs > 1
    axes = (0, *range(2, x.ndim)) if by_channel else (0,)

    def laid(parameter: np.ndarray) -> np.ndarray:
        return _per_channel(parameter, x) if by_channel else parameter.reshape(1, *x.shape[1:])

    batch_mean, batch_var = mean, var
    if trains:
        batch_mean = x.mean(axis=axes).reshape(mean.shape)
        batch_var = np.mean((x - laid(batch_mean)) ** 2, axis=axes).reshape(var.shape)
    y = (x - laid(batch_mean)) * laid(scale / np.sqrt(batch_var + epsilon)) + laid(b)
    running = tuple(
        old * momentum + new * (1 - momentum) for old, new in ((mean, batch_mean), (var, batch_var))
    )
    return (y, *running, batch_mean, batch_var)[: n_outputs if trains else 1]


def _normalized(x: np.ndarray, axes: tuple[int, ...], epsilon: float) -> np.ndarray:
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=axes, keepdims=True) + epsilon)


@operator("InstanceNormalization", since=(1, 6, 22))
def instance_normalization(
    x: np.ndarray, scale: np.ndarray, b: np.ndarray, *, epsilon: float = 1e-5
) -> np.ndarray:
    """Normalize every sample and channel of x (N, C, *spatial) by its own statistics."""
    y = _normalized(x, tuple(range(2, x.ndim)), epsilon)
    return y * _per_channel(scale, x) + _per_channel(b, x)


@operator("GroupNormalization", since=(18, 21))
def group_normalization(
    x: np.ndarray,
    scale: np.ndarray,
    b: np.ndarray,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    opset: int,
) -> np.ndarray:
    """Normalize every sample and group of x (N, C, *spatial).

    scale and b are (C,) from opset 21 on, and (num_groups,) before.
    """
    if opset < 21:
        repeats = x.shape[1] // num_groups
        scale, b = np.repeat(scale, repeats), np.repeat(b, repeats)
    grouped = x.reshape(x.shape[0], num_groups, -1)
    y = _normalized(grouped, (2,), epsilon).reshape(x.shape)
    return y * _per_channel(scale, x) + _per_channel(b, x)


@operator("LayerNormalization", since=(17,))
def layer_normalization(
    x: np.ndarray,
    scale: np.ndarray,
    b: np.ndarray | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    n_outputs: int = 1,
) -> tuple[np.ndarray, ...]:
    """Normalize over the axes of x from `axis` on; mean and inverse deviation are outputs too."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    mean = x.mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(np.mean((x - mean) ** 2, axis=axes, keepdims=True) + epsilon)
    y = (x - mean) * inverse * scale
    return (y if b is None else y + b, mean, inverse)[:n_outputs]


@operator("SimplifiedLayerNormalization", since=(1,))
@operator("RMSNormalization", since=(23,))
def rms_normalization(
    x: np.ndarray, scale: np.ndarray, *, axis: int = -1, epsilon: float = 1e-5
) -> np.ndarray:
    """Divide x by its root mean square over the axes from `axis` on."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    return x / np.sqrt(np.mean(x**2, axis=axes, keepdims=True) + epsilon) * scale


@operator("SkipLayerNormalization", since=(1,), domain="com.microsoft")
def skip_layer_normalization(
    x: np.ndarray,
    skip: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    *,
    epsilon: float = 1e-12,
) -> np.ndarray:
    """Normalize the sum of x, skip and bias over its last axis."""
    total = x + skip
    if bias is not None:
        total = total + bias
    return layer_normalization(total, gamma, beta, epsilon=epsilon)[0]


@operator("MeanVarianceNormalization", since=(9, 13))
def mean_variance_normalization(x: np.ndarray, *, axes: Sequence[int] = (0, 2, 3)) -> np.ndarray:
    """Return x without its mean along axes, divided by its deviation plus 1e-9."""
    along = tuple(axes)
    centred = x - x.mean(axis=along, keepdims=True)
    return centred / (np.sqrt(np.mean(centred**2, axis=along, keepdims=True)) + 1e-9)


@operator("LpNormalization", since=(1, 22))
def lp_normalization(x: np.ndarray, *, axis: int = -1, p: int = 2) -> np.ndarray:
    """Divide x by its p-norm along an axis; where that is 0, the result is 0."""
    if p == 1:
        norm = np.abs(x).sum(axis=axis, keepdims=True)
    else:
        norm = np.sqrt(np.square(x).sum(axis=axis, keepdims=True))
    return np.where(norm == 0, 0.0, x / np.where(norm == 0, 1.0, norm))


@operator("LRN", since=(1, 13))
def lrn(
    x: np.ndarray, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> np.ndarray:
    """Divide x (N, C, *spatial) by a power of the mean square of the channels around.

    The window reaches ``(size - 1) // 2`` channels down, the rest up; channels that aren't there
    count as 0, and `size` divides all the same.
    """
    squares = np.square(x)
    total = np.zeros_like(x)
    down = (size - 1) // 2
    channels = x.shape[1]
    for channel in range(channels):
        first, last = max(0, channel - down), min(channels, channel + size - down)
        total[:, channel] = squares[:, first:last].sum(axis=1)
    return x / (bias + alpha / size * total) ** beta

"""Normalizations, each in float64 throughout and with the variance in two passes.

Source: ONNX operators BatchNormalization-15, InstanceNormalization-22, GroupNormalization-18 and
-21, LayerNormalization-17, RMSNormalization-23; com.microsoft SkipLayerNormalization-1.
"""

from __future__ import annotations

import numpy as np

from normswap.check.arbiter.registry import Unhandled, operator


def _per_channel(parameter: np.ndarray, x: np.ndarray) -> np.ndarray:
    return parameter.reshape(1, -1, *(1,) * (x.ndim - 2))


@operator("BatchNormalization")
def batch_normalization(
    x: np.ndarray,
    scale: np.ndarray,
    b: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    epsilon: float = 1e-5,
    is_test: int = 1,
    spatial: int = 1,
    training_mode: int = 0,
    n_outputs: int = 1,
) -> np.ndarray:
    """Normalize x (N, C, *spatial) by given statistics, each (C,)."""
    if training_mode or not is_test or not spatial or n_outputs > 1 or x.ndim < 2:
        raise Unhandled
    s = scale / np.sqrt(var + epsilon)
    return (x - _per_channel(mean, x)) * _per_channel(s, x) + _per_channel(b, x)


def _normalized(x: np.ndarray, axes: tuple[int, ...], epsilon: float) -> np.ndarray:
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=axes, keepdims=True) + epsilon)


@operator("InstanceNormalization")
def instance_normalization(
    x: np.ndarray, scale: np.ndarray, b: np.ndarray, *, epsilon: float = 1e-5
) -> np.ndarray:
    """Normalize every sample and channel of x (N, C, *spatial) by its own statistics."""
    y = _normalized(x, tuple(range(2, x.ndim)), epsilon)
    return y * _per_channel(scale, x) + _per_channel(b, x)


@operator("GroupNormalization")
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


@operator("LayerNormalization")
def layer_normalization(
    x: np.ndarray,
    scale: np.ndarray,
    b: np.ndarray | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    n_outputs: int = 1,
) -> np.ndarray:
    """Normalize over the axes of x from `axis` on."""
    if n_outputs > 1:
        raise Unhandled
    y = _normalized(x, tuple(range(axis % x.ndim, x.ndim)), epsilon) * scale
    return y if b is None else y + b


@operator("RMSNormalization", "SimplifiedLayerNormalization")
def rms_normalization(
    x: np.ndarray, scale: np.ndarray, *, axis: int = -1, epsilon: float = 1e-5
) -> np.ndarray:
    """Divide x by its root mean square over the axes from `axis` on."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    return x / np.sqrt(np.mean(x**2, axis=axes, keepdims=True) + epsilon) * scale


@operator("SkipLayerNormalization", domain="com.microsoft")
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
    return layer_normalization(total, gamma, beta, epsilon=epsilon)

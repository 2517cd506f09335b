"""Group normalization in float64, written from its definition and shared with no form of it.

Source: Wu and He, "Group Normalization", ECCV 2018, equations 1 to 6; ONNX operator
GroupNormalization, opset 21.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


def normalize(x: npt.NDArray[Any], *, num_groups: int, epsilon: float) -> Float64:
    """Bring every group of channels of every sample to mean 0 and variance 1.

    Parameters
    ----------
    x : (N, C, *spatial) ndarray
        Any float type; computed in float64.
    num_groups : int
        Divides C. Channels ``[k * C / G, (k + 1) * C / G)`` are group k.
    epsilon : float
        Added to the variance.

    Returns
    -------
    (N, C, *spatial) ndarray of float64
        ``(x - mean) / sqrt(var + epsilon)``, with the population variance. NaN for a group without
        any spread where epsilon is 0.

    Raises
    ------
    ValueError
        If C is not a multiple of `num_groups`.
    """
    batch, channels = x.shape[:2]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"{channels} channels can't be split into {num_groups} equal groups")
    with np.errstate(
        invalid="ignore", over="ignore", divide="ignore"
    ):  # infinities and NaNs are passed on
        groups = x.astype(np.float64).reshape(batch, num_groups, -1)
        centred = groups - groups.mean(axis=2, keepdims=True)
        # The first mean is rounded; what it left behind is taken out by a second one.
        centred -= centred.mean(axis=2, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=2, keepdims=True) + epsilon)
        normalized: Float64 = (centred / deviation).reshape(x.shape)
    return normalized


def group_normalization(
    x: npt.NDArray[Any],
    scale: npt.NDArray[Any] | None,
    bias: npt.NDArray[Any] | None,
    *,
    num_groups: int,
    epsilon: float,
) -> Float64:
    """Return ``scale * (x - mean) / sqrt(var + epsilon) + bias`` per sample and group.

    Parameters
    ----------
    x : (N, C, *spatial) ndarray
    scale, bias : (C,) ndarray or None
        None is a scale of 1, a bias of 0.
    num_groups : int
    epsilon : float

    Returns
    -------
    (N, C, *spatial) ndarray of float64
    """
    along_channels = (-1,) + (1,) * (x.ndim - 2)
    result = normalize(x, num_groups=num_groups, epsilon=epsilon)
    if scale is not None:
        result = result * scale.astype(np.float64).reshape(along_channels)
    if bias is not None:
        result = result + bias.astype(np.float64).reshape(along_channels)
    return result

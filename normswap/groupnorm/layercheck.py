"""One swapped node against the float64 group normalization of what came to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from normswap.dtypes import NUMPY_DTYPES
from normswap.groupnorm.fusion import SILU
from normswap.groupnorm.reference import group_normalization, silu
from normswap.groupnorm.rounding import GroupStatistics, by_channel

if TYPE_CHECKING:
    from normswap.groupnorm.layer import Layer


@dataclass(frozen=True, slots=True)
class LayerCheck:
    """One swapped node.

    Attributes
    ----------
    layer : str
    max_error : float
        Largest distance from the float64 group normalization.
    ratio : float
        The largest error in units of what rounding may do; above 1 the node is wrong.
    isolated : bool
        Whether it was run by itself, on activations that were made up: those that reach a node in
        a subgraph or a function can't be seen.
    """

    layer: str
    max_error: float
    ratio: float
    isolated: bool = False


def check_layer(
    layer: Layer,
    x: np.ndarray,
    y: np.ndarray,
    scale: np.ndarray | None,
    bias: np.ndarray | None,
) -> LayerCheck:
    """Compare what a node made of its input with the float64 group normalization of that.

    What rounding may do, for sums of L elements in a type of unit roundoff u: the mean is off by
    ``(16 + sqrt(L)) * u`` of the largest element, and so is the variance, relative to it; where it
    is computed as ``E[x^2] - E[x]^2``, relative to ``E[x^2]``. That is how errors that go either
    way add up. Where many elements are equal, as behind an activation and a convolution of zeros,
    they go one way; so what sums of these very elements are off by comes on top
    (:mod:`normswap.groupnorm.rounding`). Then every step rounds the result.
    """
    unit = float(np.finfo(NUMPY_DTYPES[layer.compute_type]).eps) / 2
    # Half precision is only what the result is rounded to, in the operators that compute in it.
    steps = float(ml_dtypes.finfo(NUMPY_DTYPES[layer.data_type]).eps) / 2
    tiny = float(ml_dtypes.finfo(NUMPY_DTYPES[layer.data_type]).tiny)
    truth = group_normalization(x, scale, bias, num_groups=layer.num_groups, epsilon=layer.epsilon)
    with np.errstate(all="ignore"):
        statistics = GroupStatistics.of(layer, x)
        mean, spread = statistics.mean, statistics.spread
        groups = np.abs(x.astype(np.float64)).reshape(*mean.shape, -1)
        sums = (16 + math.sqrt(groups.shape[2])) * unit

        def wide(per_group: np.ndarray) -> np.ndarray:
            return by_channel(layer, per_group, x.ndim)

        along = (-1,) + (1,) * (x.ndim - 2)
        size = np.ones(1) if scale is None else np.abs(scale.astype(np.float64)).reshape(along)
        offset = np.zeros(1) if bias is None else np.abs(bias.astype(np.float64)).reshape(along)
        gain = size * wide(1 / np.sqrt(spread))
        largest = wide(groups.max(axis=2))
        body = np.abs(truth) + offset
        second_moment = wide((np.square(mean) + spread) / spread)
        allowed = sums * gain * largest + sums * body * second_moment + 8 * steps * body + tiny
        allowed += gain * wide(statistics.mean_off) + body * wide(statistics.spread_off)
        if layer.activation == SILU:
            # Its slope is 1.1 at most, and it is one step more.
            truth = silu(truth)
            allowed = 1.1 * allowed + 8 * steps * np.abs(truth)
        error = np.abs(y.astype(np.float64) - truth)
    finite = np.isfinite(truth)
    if not np.array_equal(finite, np.isfinite(y.astype(np.float64))):
        overflow = np.abs(truth) > float(ml_dtypes.finfo(NUMPY_DTYPES[layer.data_type]).max)
        if not (overflow | finite).all() or not np.isfinite(y.astype(np.float64))[finite].all():
            return LayerCheck(layer.name, math.inf, math.inf)
    if not finite.any():
        return LayerCheck(layer.name, 0.0, 0.0)
    ratio = (error / allowed)[finite].max()
    return LayerCheck(layer.name, float(error[finite].max()), float(ratio))

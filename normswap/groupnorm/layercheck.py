"""One swapped node against the float64 group normalization of what came to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from normswap.dtypes import NUMPY_DTYPES
from normswap.groupnorm.fusion import SILU
from normswap.groupnorm.reference import group_normalization, silu

if TYPE_CHECKING:
    import numpy.typing as npt

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
    they go one way; so what sums of these very elements are off by comes on top. Then every step
    rounds the result.
    """
    unit = float(np.finfo(NUMPY_DTYPES[layer.compute_type]).eps) / 2
    # Half precision is only what the result is rounded to, in the operators that compute in it.
    steps = float(ml_dtypes.finfo(NUMPY_DTYPES[layer.data_type]).eps) / 2
    tiny = float(ml_dtypes.finfo(NUMPY_DTYPES[layer.data_type]).tiny)
    truth = group_normalization(x, scale, bias, num_groups=layer.num_groups, epsilon=layer.epsilon)
    batch, channels = x.shape[:2]
    with np.errstate(all="ignore"):
        groups = x.astype(np.float64).reshape(batch, layer.num_groups, -1)
        mean = groups.mean(axis=2)
        spread = groups.var(axis=2) + layer.epsilon
        count = groups.shape[2]
        sums = (16 + math.sqrt(count)) * unit
        compute = NUMPY_DTYPES[layer.compute_type]
        off_mean = _off(groups, compute) / count
        squares = (np.square(groups), np.square(groups - mean[..., None]))
        off_variance = np.maximum(*(_off(each, compute) for each in squares)) / count / spread

        def by_channel(per_group: np.ndarray) -> np.ndarray:
            wide = np.repeat(per_group, channels // layer.num_groups, axis=1)
            return wide.reshape(batch, channels, *(1,) * (x.ndim - 2))

        along = (-1,) + (1,) * (x.ndim - 2)
        size = np.ones(1) if scale is None else np.abs(scale.astype(np.float64)).reshape(along)
        offset = np.zeros(1) if bias is None else np.abs(bias.astype(np.float64)).reshape(along)
        gain = size * by_channel(1 / np.sqrt(spread))
        largest = by_channel(np.abs(groups).max(axis=2))
        body = np.abs(truth) + offset
        second_moment = by_channel((np.square(mean) + spread) / spread)
        allowed = sums * gain * largest + sums * body * second_moment + 8 * steps * body + tiny
        allowed += gain * by_channel(off_mean) + body * by_channel(off_variance)
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


LANES = (1, 4)
"""Running sums that kernels keep, of which the last step adds up what they have."""


def _off(values: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> npt.NDArray[np.float64]:
    """Return by how much sums along the last axis are off, in a type and one after the other."""
    narrow = values.astype(dtype)
    exact = narrow.sum(axis=-1, dtype=np.longdouble)
    size = narrow.shape[-1]
    worst = np.zeros(exact.shape)
    for lanes in LANES:
        even = narrow[..., : size // lanes * lanes].reshape(*exact.shape, -1, lanes)
        rest = narrow[..., size // lanes * lanes :].sum(axis=-1, dtype=np.longdouble)
        if even.shape[-2]:
            # NumPy's own sum is pairwise; a cumulative one can't be.
            sums = even.cumsum(axis=-2)[..., -1, :].sum(axis=-1, dtype=np.longdouble)
            off = np.abs(sums + rest - exact).astype(np.float64)
            worst = np.fmax(worst, off)
    return worst

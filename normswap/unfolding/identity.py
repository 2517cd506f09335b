"""The BatchNormalization that has given statistics and is the identity.

With statistics m and v it is ``mean = m``, ``var = v``, ``scale = sqrt(v + epsilon)``, ``B = m``::

    y = scale * (x - mean) / sqrt(var + epsilon) + B = x

So that this is more than nearly so, scale and var are chosen together, next to what was measured.
Where ``scale / sqrt(var + epsilon)`` is 1 without rounding, a fold gives the weights back bit for
bit; where the runtime's arithmetic also makes it 1 (its shift is then ``B - mean * 1 = 0``),
nothing changes there either. Both hold where

- epsilon is a power of 4, so that its root is exact (and a dead channel, v = 0, has ``var = 0`` and
  ``scale = sqrt(epsilon)``);
- ``scale**2 - epsilon`` has no more digits than var: scale has half of these;
- ``(1 / scale) * scale`` is 1 as rounded.

That moves a deviation by less than a thousandth of itself in float32 (up to deviations of 256),
and by some percent in 16 bits. Where there is no such scale nearby (larger deviations, 16 bits),
the one is taken whose quotient is next to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from normswap.dtypes import NUMPY_DTYPES, round_to
from normswap.finite import flaw_of

if TYPE_CHECKING:
    from normswap.finite import Flaw

ROOT = 2.0**-8
EPSILON = ROOT**2
"""1.5e-5: of the powers of 4 the one next to what frameworks take by default, 1e-5."""

FARTHEST = 2.0**-4
"""How far a scale may be moved, relatively."""

FEWEST = 3
"""Digits of the coarsest scales that are tried; the finest have half of their type's and MORE."""

MORE = 3


@dataclass(frozen=True, slots=True)
class IdentityParameters:
    """Parameters of a BatchNormalization that is the identity.

    Attributes
    ----------
    scale, mean, var : (C,) ndarray
        In the type that they are stored in. B is the mean.
    """

    scale: npt.NDArray[Any]
    mean: npt.NDArray[Any]
    var: npt.NDArray[Any]


def overflow_of(name: str, var: npt.NDArray[np.float64], data_type: int) -> Flaw | None:
    """Return what of a variance, and so of the scale, is beyond the range of a type, if any is."""
    return flaw_of(name, var, NUMPY_DTYPES[data_type])


def identity_of(
    mean: npt.NDArray[np.float64], var: npt.NDArray[np.float64], data_type: int
) -> IdentityParameters:
    """Return the identity that has some statistics.

    Parameters
    ----------
    mean, var : (C,) ndarray of float64
        Finite, var not negative.
    data_type : int
        ``TensorProto.DataType`` of the parameters.
    """
    target = np.sqrt(var.astype(np.longdouble) + EPSILON)
    scales = _candidates(target, data_type)
    variances = round_to(np.maximum(scales**2 - EPSILON, 0), data_type)
    far = np.abs(scales - target) / target
    off = np.abs(scales / np.sqrt(variances.astype(np.longdouble) + EPSILON) - 1)
    # The nearest of those that are exact; else the most exact.
    cost = np.where((off == 0) & _is_one(scales, variances, data_type), far, 1 + off)
    cost[far > FARTHEST] = np.inf
    best = np.argmin(cost, axis=0)[np.newaxis]
    return IdentityParameters(
        round_to(np.take_along_axis(scales, best, axis=0)[0], data_type),
        round_to(mean, data_type),
        np.take_along_axis(variances, best, axis=0)[0],
    )


def _candidates(target: npt.NDArray[Any], data_type: int) -> npt.NDArray[Any]:
    """Return scales near a target that have few digits, or so many but for the last: ``(K, C)``.

    Squares of the others have as few digits once epsilon is taken away: of
    ``(k +- ROOT)**2 - EPSILON = k * (k +- 2 * ROOT)`` both factors end in zeros.
    """
    digits = 1 + int(ml_dtypes.finfo(NUMPY_DTYPES[data_type]).nmant)
    exponent = np.floor(np.log2(target))
    found = []
    for few in range(digits // 2 + MORE, FEWEST - 1, -1):
        unit = np.exp2(exponent - few + 1)
        grid = np.round(target / unit) * unit
        for step in range(-3, 4):
            found += [grid + step * unit + part for part in (0.0, ROOT, -ROOT)]
    scales = np.maximum(np.stack(found), ROOT)
    return np.asarray(round_to(scales, data_type).astype(np.longdouble))


def _is_one(
    scales: npt.NDArray[Any], variances: npt.NDArray[Any], data_type: int
) -> npt.NDArray[np.bool_]:
    """Whether onnxruntime's scale is 1, which it computes in float32, or float64 for float64."""
    single = np.dtype(np.float64 if data_type == TensorProto.DOUBLE else np.float32)
    root = np.sqrt(variances.astype(single) + np.array(EPSILON, single))
    return np.asarray(np.array(1, single) / root * scales.astype(single) == 1)

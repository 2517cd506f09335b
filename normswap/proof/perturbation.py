"""Weights moved at random within what rounding leaves open: half a unit in the last place."""

from __future__ import annotations

import zlib
from typing import Any

import ml_dtypes
import numpy as np

from normswap.dtypes import is_floating

# Inputs that hold no weights: perturbing a size, an exponent, a bound or a threshold changes
# what a model does, not how its weights were rounded.
NOT_WEIGHTS = {
    "Clip": {1, 2},
    "ConstantOfShape": {0},
    "Dropout": {1},
    "Equal": {0, 1},
    "Greater": {0, 1},
    "GreaterOrEqual": {0, 1},
    "Less": {0, 1},
    "LessOrEqual": {0, 1},
    "Mod": {0, 1},
    "NonMaxSuppression": {3, 4},
    "OneHot": {1, 2},
    "Pad": {2},
    "Pow": {1},
    "Range": {0, 1, 2},
    "Resize": {1, 2, 3},
    "Upsample": {1},
}


def perturbed(
    value: np.ndarray, name: str, sample: int, storage: np.dtype[Any] | None
) -> np.ndarray:
    """Return a weight as rounding its elements anew might have left it.

    Parameters
    ----------
    value : numpy.ndarray
        In float64 where `storage` is a floating-point type; others are returned as they are.
    name : str
        Of the tensor; with `sample` the seed.
    sample : int
        0 perturbs nothing.
    storage : numpy.dtype or None
        The type that the weight is stored in; each element moves by up to half of its epsilon,
        relatively.
    """
    if sample == 0 or storage is None or not is_floating(storage):
        return value
    unit = float(ml_dtypes.finfo(storage).eps) / 2
    rng = np.random.default_rng([sample, zlib.crc32(name.encode())])
    step = rng.random(value.shape, dtype=np.float32)
    return value + value * ((2.0 * unit) * (step.astype(np.float64) - 0.5))

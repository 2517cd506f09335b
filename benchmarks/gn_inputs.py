"""Inputs that are hard on a group normalization, and the affine that comes after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

# What comes to the node: mean, standard deviation, and how it is made.
ACTIVATIONS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "mean 0, std 1": lambda rng, shape: rng.normal(size=shape),
    "mean 100, std 3": lambda rng, shape: rng.normal(size=shape) * 3 + 100,
    "mean 1e4, std 1e-2": lambda rng, shape: rng.normal(size=shape) * 1e-2 + 1e4,
    "constant 1e4": lambda _rng, shape: np.full(shape, 1e4),
    "huge, 1e15": lambda rng, shape: rng.normal(size=shape) * 1e15,
    "tiny, 1e-15": lambda rng, shape: rng.normal(size=shape) * 1e-15,
    "subnormal, 1e-40": lambda rng, shape: rng.normal(size=shape) * 1e-40,
    "one outlier of 1e4": lambda rng, shape: _outlier(rng.normal(size=shape)),
}


def _outlier(x: np.ndarray) -> np.ndarray:
    x.flat[7] = 1e4
    return x


def affine_of(channels: int) -> tuple[np.ndarray, np.ndarray]:
    scale, bias = np.random.default_rng(0).normal(size=(2, channels)).astype(np.float32)
    return scale, bias

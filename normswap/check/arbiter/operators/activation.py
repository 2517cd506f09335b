"""Activations that the reference lacks, or evaluates element by element in Python.

Source: ONNX operators Erf-13, Gelu-20; com.microsoft Gelu-1, QuickGelu-1, BiasGelu-1, FastGelu-1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normswap.check.arbiter.registry import operator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_erf = np.frompyfunc(math.erf, 1, 1)


@operator("Erf")
def erf(x: np.ndarray) -> np.ndarray:
    """Return the error function, from the C library by way of `math`."""
    return np.asarray(_erf(x)).astype(np.float64)


@operator("Gelu")
def gelu(x: np.ndarray, *, approximate: str = "none") -> np.ndarray:
    """Return ``x * Phi(x)``, or its approximation by tanh."""
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


@operator("Gelu", domain="com.microsoft")
def contrib_gelu(x: np.ndarray) -> np.ndarray:
    """Return ``x * Phi(x)``."""
    return gelu(x)


@operator("BiasGelu", domain="com.microsoft")
def bias_gelu(x: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Gelu of a sum."""
    return gelu(x + b)


@operator("FastGelu", domain="com.microsoft")
def fast_gelu(x: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Return the Gelu by tanh, of a sum if there is a bias."""
    return gelu(x if b is None else x + b, approximate="tanh")


@operator("QuickGelu", domain="com.microsoft")
def quick_gelu(x: np.ndarray, *, alpha: float = 1.702) -> np.ndarray:
    """Return ``x * sigmoid(alpha * x)``."""
    return x * sigmoid(alpha * x)


@operator("Sigmoid")
def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return the logistic function, by the branch that cannot overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _leaky_relu(x: np.ndarray, alpha: float = 0.01) -> np.ndarray:
    return np.where(x >= 0, x, alpha * x)


def _hard_sigmoid(x: np.ndarray, alpha: float = 0.2, beta: float = 0.5) -> np.ndarray:
    return np.clip(alpha * x + beta, 0.0, 1.0)


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


# By the name that com.microsoft's fused operators call them.
ACTIVATIONS: Mapping[str, Callable[..., np.ndarray]] = {
    "Clip": np.clip,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky_relu,
    "Relu": _relu,
    "Sigmoid": sigmoid,
    "Tanh": np.tanh,
}

"""Activations: functions of one element with parameters.

Source: ONNX operators of these names; com.microsoft Gelu-1, QuickGelu-1, BiasGelu-1, FastGelu-1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_erf = np.frompyfunc(math.erf, 1, 1)


@operator("Erf", since=(9, 13))
def erf(x: np.ndarray) -> np.ndarray:
    """Return the error function, from the C library by way of `math`."""
    return np.asarray(_erf(x)).astype(np.float64)


@operator("Gelu", since=(20,))
def gelu(x: np.ndarray, *, approximate: str = "none") -> np.ndarray:
    """Return ``x * Phi(x)``, or its approximation by tanh."""
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


@operator("Gelu", since=(1,), domain="com.microsoft")
def contrib_gelu(x: np.ndarray) -> np.ndarray:
    """Return ``x * Phi(x)``."""
    return gelu(x)


@operator("BiasGelu", since=(1,), domain="com.microsoft")
def bias_gelu(x: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Gelu of a sum."""
    return gelu(x + b)


@operator("FastGelu", since=(1,), domain="com.microsoft")
def fast_gelu(x: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Return the Gelu by tanh, of a sum if there is a bias."""
    return gelu(x if b is None else x + b, approximate="tanh")


@operator("QuickGelu", since=(1,), domain="com.microsoft")
def quick_gelu(x: np.ndarray, *, alpha: float = 1.702) -> np.ndarray:
    """Return ``x * sigmoid(alpha * x)``."""
    return x * sigmoid(alpha * x)


@operator("Sigmoid", since=(1, 6, 13))
def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return the logistic function, by the branch that cannot overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


@operator("Relu", since=(1, 6, 13, 14))
def relu(x: np.ndarray) -> np.ndarray:
    """Return x, or 0 where it is negative."""
    return np.maximum(x, np.zeros((), x.dtype))


@operator("LeakyRelu", since=(1, 6, 16))
def leaky_relu(x: np.ndarray, *, alpha: float = 0.01) -> np.ndarray:
    """Return x, or ``alpha * x`` where it is negative."""
    return np.where(x >= 0, x, alpha * x)


@operator("PRelu", since=(1, 6, 7, 9, 16))
def prelu(x: np.ndarray, slope: np.ndarray, *, opset: int) -> np.ndarray:
    """Return x, or ``slope * x`` where negative; until opset 6 a slope (C,) is per channel."""
    if opset < 7 and slope.ndim == 1 and slope.size > 1:
        slope = slope.reshape(-1, *(1,) * (x.ndim - 2))
    return np.where(x >= 0, x, slope * x).astype(x.dtype)


@operator("ThresholdedRelu", since=(10, 22))
def thresholded_relu(x: np.ndarray, *, alpha: float = 1.0) -> np.ndarray:
    """Return x where it is above alpha, else 0."""
    return np.where(x > alpha, x, 0.0)


@operator("Elu", since=(1, 6, 22))
def elu(x: np.ndarray, *, alpha: float = 1.0) -> np.ndarray:
    """Return x, or ``alpha * (exp(x) - 1)`` where it is negative."""
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


@operator("Celu", since=(12, 28))
def celu(x: np.ndarray, *, alpha: float = 1.0) -> np.ndarray:
    """Return ``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``."""
    return np.maximum(x, 0.0) + np.minimum(0.0, alpha * np.expm1(x / alpha))


@operator("Selu", since=(1, 6, 22))
def selu(
    x: np.ndarray, *, alpha: float | None = None, gamma: float | None = None, opset: int
) -> np.ndarray:
    """Return gamma times the Elu of x; the defaults have more digits since opset 6."""
    first = opset < 6
    a = (1.6732 if first else 1.67326319217681884765625) if alpha is None else alpha
    g = (1.0507 if first else 1.05070102214813232421875) if gamma is None else gamma
    return g * np.where(x > 0, x, a * np.expm1(np.minimum(x, 0.0)))


@operator("HardSigmoid", since=(1, 6, 22))
def hard_sigmoid(x: np.ndarray, *, alpha: float = 0.2, beta: float = 0.5) -> np.ndarray:
    """Return ``alpha * x + beta`` within 0 and 1."""
    return np.clip(alpha * x + beta, 0.0, 1.0)


@operator("HardSwish", since=(14, 22))
def hard_swish(x: np.ndarray) -> np.ndarray:
    """Return ``x * hard_sigmoid(x)`` with a slope of a sixth."""
    return x * np.clip(x / 6 + 0.5, 0.0, 1.0)


@operator("Swish", since=(24,))
def swish(x: np.ndarray, *, alpha: float = 1.0) -> np.ndarray:
    """Return ``x * sigmoid(alpha * x)``."""
    return x * sigmoid(alpha * x)


@operator("Softplus", since=(1, 22))
def softplus(x: np.ndarray) -> np.ndarray:
    """Return ``log(1 + exp(x))``."""
    return np.logaddexp(0.0, x)


@operator("Softsign", since=(1, 22))
def softsign(x: np.ndarray) -> np.ndarray:
    """Return ``x / (1 + |x|)``."""
    return x / (1 + np.abs(x))


@operator("Mish", since=(18, 22))
def mish(x: np.ndarray) -> np.ndarray:
    """Return ``x * tanh(softplus(x))``."""
    return x * np.tanh(softplus(x))


@operator("Shrink", since=(9,))
def shrink(x: np.ndarray, *, bias: float = 0.0, lambd: float = 0.5) -> np.ndarray:
    """Return x moved towards 0 by the bias, or 0 where it is within lambd of it."""
    moved = np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0.0))
    return moved.astype(x.dtype)


def _hard_sigmoid(x: np.ndarray, alpha: float = 0.2, beta: float = 0.5) -> np.ndarray:
    return hard_sigmoid(x, alpha=alpha, beta=beta)


def _leaky_relu(x: np.ndarray, alpha: float = 0.01) -> np.ndarray:
    return leaky_relu(x, alpha=alpha)


# By the name that com.microsoft's fused operators call them.
ACTIVATIONS: Mapping[str, Callable[..., np.ndarray]] = {
    "Clip": np.clip,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky_relu,
    "Relu": relu,
    "Sigmoid": sigmoid,
    "Tanh": np.tanh,
}

"""Functions of one element.

Source: ONNX operators of these names; where an opset changed one, only the types it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Callable

_FUNCTIONS: dict[str, tuple[Callable[..., np.ndarray], tuple[int, ...]]] = {
    "Abs": (np.abs, (1, 6, 13)),
    "Acos": (np.arccos, (7, 22)),
    "Acosh": (np.arccosh, (9, 22)),
    "Asin": (np.arcsin, (7, 22)),
    "Asinh": (np.arcsinh, (9, 22)),
    "Atan": (np.arctan, (7, 22)),
    "Atanh": (np.arctanh, (9, 22)),
    "BitwiseNot": (np.bitwise_not, (18,)),
    "Ceil": (np.ceil, (1, 6, 13)),
    "Cos": (np.cos, (7, 22)),
    "Cosh": (np.cosh, (9, 22)),
    "Exp": (np.exp, (1, 6, 13)),
    "Floor": (np.floor, (1, 6, 13)),
    "IsNaN": (np.isnan, (9, 13, 20)),
    "Log": (np.log, (1, 6, 13)),
    "Neg": (np.negative, (1, 6, 13)),
    "Not": (np.logical_not, (1,)),
    "Reciprocal": (lambda x: 1.0 / x, (1, 6, 13)),
    "Round": (np.rint, (11, 22)),  # halves to even
    "Sign": (np.sign, (9, 13)),
    "Sin": (np.sin, (7, 22)),
    "Sinh": (np.sinh, (9, 22)),
    "Sqrt": (np.sqrt, (1, 6, 13)),
    "Tan": (np.tan, (7, 22)),
    "Tanh": (np.tanh, (1, 6, 13)),
}


def _of_one(function: Callable[..., np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.asarray(function(x))


for _name, (_function, _since) in _FUNCTIONS.items():
    operator(_name, since=_since)(_of_one(_function))


@operator("IsInf", since=(10, 20))
def is_inf(x: np.ndarray, *, detect_negative: int = 1, detect_positive: int = 1) -> np.ndarray:
    """Return where x is infinite, with a sign that is asked for."""
    negative = np.isneginf(x) if detect_negative else np.zeros(x.shape, bool)
    return negative | np.isposinf(x) if detect_positive else negative

"""Functions of single elements, broadcast or not: their derivatives by central differences.

In float64 these are right to eight digits, for whatever function it is; at a kink they are the mean
of both sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.groupnorm.refit.adjoints.base import rule, summed_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.groupnorm.refit.adjoints.base import Array, Pull, Step

_STEP = 1e-5

# fmt: off
_OPERATORS = (
    "Abs", "Add", "Atan", "Celu", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid",
    "HardSwish", "LeakyRelu", "Log", "Max", "Mean", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow",
    "Reciprocal", "Relu", "Selu", "Sigmoid", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum",
    "Swish", "Tanh", "ThresholdedRelu", "Where",
)
# fmt: on


@rule("FastGelu", "Gelu", "QuickGelu", domain="com.microsoft")
@rule("BatchNormalization", slots=[0])
@rule(*_OPERATORS)
def elementwise(step: Step) -> Pull:
    """Return the pull of a function of single elements."""
    wide = [_wide(value) for value in step.inputs]
    slopes: dict[int, Array] = {}
    for slot in step.active:
        x = step.given(slot).astype(np.float64)
        move = _STEP * (1 + np.abs(x))
        low, high = (
            step.evaluate([*wide[:slot], x + sign * move, *wide[slot + 1 :]])[0] for sign in (-1, 1)
        )
        with np.errstate(all="ignore"):
            slope = ((high - low) / (2 * move)).astype(step.made.dtype)
        slopes[slot] = np.where(np.isfinite(slope), slope, 0)

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        if g[0] is None:
            return {}
        return {
            slot: summed_to(g[0] * slope, step.given(slot).shape) for slot, slope in slopes.items()
        }

    return pull


def _wide(value: Array | None) -> Array | None:
    return value.astype(np.float64) if value is not None and value.dtype.kind == "f" else value

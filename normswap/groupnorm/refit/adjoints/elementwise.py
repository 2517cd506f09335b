"""Functions of single elements, broadcast or not: their derivatives by central differences.

In float64 these are right to eight digits, for whatever function it is; at a kink they are the mean
of both sides. Of the commonest the derivative is written down, since that is what takes time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.groupnorm.refit.adjoints.base import rule, summed_to

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def _clip(step: Step, slot: int) -> Array | None:
    if slot:
        return None
    inside: Array = step.made == step.given(0)
    return inside


def _div(step: Step, slot: int) -> Array:
    slope: Array = (-step.made if slot else 1) / step.given(1)
    return slope


def _hard_sigmoid(step: Step, _: int) -> Array:
    inside: Array = (step.made > 0) & (step.made < 1)
    slope: Array = inside * step.made.dtype.type(step.attributes.get("alpha", 0.2))
    return slope


def _hard_swish(step: Step, _: int) -> Array:
    x = step.given(0)
    slope: Array = np.where(x > 3, 1, np.where(x < -3, 0, x / 3 + 0.5)).astype(x.dtype)
    return slope


def _sigmoid(step: Step, _: int) -> Array:
    slope: Array = step.made * (1 - step.made)
    return slope


_KNOWN: dict[str, Callable[[Step, int], Array | float | None]] = {
    "Add": lambda _, __: 1.0,
    "Clip": _clip,
    "Div": _div,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Mul": lambda step, slot: step.given(1 - slot),
    "Neg": lambda _, __: -1.0,
    "Relu": lambda step, _: step.given(0) > 0,
    "Sigmoid": _sigmoid,
    "Sub": lambda _, slot: -1.0 if slot else 1.0,
    "Sum": lambda _, __: 1.0,
}


@rule("FastGelu", "Gelu", "QuickGelu", domain="com.microsoft")
@rule("BatchNormalization", slots=[0])
@rule(*_OPERATORS)
def elementwise(step: Step) -> Pull:
    """Return the pull of a function of single elements."""
    slopes = {slot: (step.given(slot).shape, _slope(step, slot)) for slot in step.active}

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        if g[0] is None:
            return {}
        y = g[0]
        return {slot: summed_to(y * slope, shape) for slot, (shape, slope) in slopes.items()}

    return pull


def _slope(step: Step, slot: int) -> Array | float:
    known = None if step.domain else _KNOWN.get(step.op)
    found = None if known is None else known(step, slot)
    return _central(step, slot) if found is None else found


def _central(step: Step, slot: int) -> Array:
    wide = [_wide(value) for value in step.inputs]
    x = step.given(slot).astype(np.float64)
    move = _STEP * (1 + np.abs(x))
    low, high = (
        step.evaluate([*wide[:slot], x + sign * move, *wide[slot + 1 :]])[0] for sign in (-1, 1)
    )
    with np.errstate(all="ignore"):
        slope = ((high - low) / (2 * move)).astype(step.made.dtype)
    return np.where(np.isfinite(slope), slope, 0)


def _wide(value: Array | None) -> Array | None:
    return value.astype(np.float64) if value is not None and value.dtype.kind == "f" else value

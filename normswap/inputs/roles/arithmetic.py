"""Which numbers an operator can compute with."""

from __future__ import annotations

import numpy as np

from normswap.inputs.roles.rule import Allowed, Slot, rule

TRIPS = 4  # of a loop


@rule(("Div", 1), ("Mod", 1))
def _divisor(_: Slot) -> Allowed:
    return Allowed(zero=False)


@rule(("Pow", 1))
def _exponent(_: Slot) -> Allowed:
    return Allowed(0, 3)


@rule(("BitShift", 1))
def _shift(_: Slot) -> Allowed:
    return Allowed(0, 7)  # of the narrowest type


@rule(("IsNaN", 0), ("IsInf", 0))
def no_number(slot: Slot) -> Allowed:
    """Allow numbers, NaN and infinities in turn."""
    values = slot.rng.standard_normal(slot.count)
    which = np.arange(slot.count) % 4 - 1  # a number, NaN, infinity, its negative, ...
    values[which == 0] = np.nan
    values[which == 1] = np.inf
    values[which == 2] = -np.inf
    return Allowed(values=slot.rng.permutation(values))


@rule(("Loop", 0))
def _trips(_: Slot) -> Allowed:
    return Allowed(1, TRIPS)


@rule(("Loop", 1))
def _goes_on(_: Slot) -> Allowed:
    return Allowed(1, 1)


@rule(("Dropout", 1))
def _ratio(_: Slot) -> Allowed:
    return Allowed(0, 0.9)


@rule(("Dropout", 2))
def _trains(_: Slot) -> Allowed:
    return Allowed(0, 0)


@rule(("BatchNormalization", 4))
def _variance(_: Slot) -> Allowed:
    return Allowed(0.1, 2)


@rule(
    ("QuantizeLinear", 1),
    ("DequantizeLinear", 1),
    *(("QLinearConv", slot) for slot in (1, 4, 6)),
    *(("QLinearMatMul", slot) for slot in (1, 4, 6)),
)
def _quantum(_: Slot) -> Allowed:
    return Allowed(0.01, 0.1)


@rule(("Bernoulli", 0))
def _probability(_: Slot) -> Allowed:
    return Allowed(0, 1)

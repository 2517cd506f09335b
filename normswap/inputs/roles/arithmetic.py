"""Which numbers an operator can compute with, and others that it takes whatever it reads."""

from __future__ import annotations

import numpy as np

from normswap.inputs.roles.rule import Allowed, Slot, always, rule

TRIPS = 4  # of a loop

always(
    {
        **dict.fromkeys([("Div", 1), ("Mod", 1)], Allowed(zero=False)),
        ("Pow", 1): Allowed(0, 3),
        ("BitShift", 1): Allowed(0, 7),  # of the narrowest type
        ("Loop", 0): Allowed(1, TRIPS),
        ("Loop", 1): Allowed(1, 1),
        ("Dropout", 1): Allowed(0, 0.9),
        ("Dropout", 2): Allowed(0, 0),
        ("BatchNormalization", 4): Allowed(0.1, 2),
        **dict.fromkeys(
            [
                ("QuantizeLinear", 1),
                ("DequantizeLinear", 1),
                *(("QLinearConv", slot) for slot in (1, 4, 6)),
                *(("QLinearMatMul", slot) for slot in (1, 4, 6)),
            ],
            Allowed(0.01, 0.1),
        ),
        ("Bernoulli", 0): Allowed(0, 1),
        ("Cast", 0): Allowed(choices=("0", "1", "-2", "34")),  # where it is a string
        ("Slice", 4): Allowed(1, 2),
        **dict.fromkeys([("NonMaxSuppression", slot) for slot in (0, 1, 3)], Allowed(0, 1)),
        ("NonMaxSuppression", 2): Allowed(1, 5),
        ("NonMaxSuppression", 4): Allowed(0, 0.5),
    }
)


@rule(("IsNaN", 0), ("IsInf", 0))
def no_number(slot: Slot) -> Allowed:
    """Allow numbers, NaN and infinities in turn."""
    values = slot.rng.standard_normal(slot.count)
    which = np.arange(slot.count) % 4 - 1  # a number, NaN, infinity, its negative, ...
    values[which == 0] = np.nan
    values[which == 1] = np.inf
    values[which == 2] = -np.inf
    return Allowed(values=slot.rng.permutation(values))

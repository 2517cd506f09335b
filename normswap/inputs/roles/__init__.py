"""Which values an input may have, by the operators that read it.

An axis must exist, an index must lie within its axis, sizes must fit the data, a divisor must not
be zero. Each operator that asks something of an input has a rule in a file of this folder, written
from the operator's page in ONNX's specification; where a rule would need what isn't known (the rank
of a tensor whose shape is computed), it falls back to what is safe for every model: an index of 0,
a size of 1.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from normswap.inputs.roles import axes, choices, indices, regions, sizes
from normswap.inputs.roles.arithmetic import no_number
from normswap.inputs.roles.rule import Allowed, Known, Slot, rule_of

if TYPE_CHECKING:
    import numpy as np

    from normswap.inputs.roles.rule import Shape
    from normswap.inputs.semantics import Semantics

__all__ = ["Allowed", "Known", "allowed", "axes", "choices", "indices", "regions", "sizes"]


def allowed(
    meaning: Semantics, shape: Shape, known: Known, rng: np.random.Generator
) -> Allowed | None:
    """Return what values an input may have, None where nobody asks anything of them.

    Parameters
    ----------
    meaning : Semantics
    shape : tuple of int
        Of the input.
    known : Known
    rng : numpy.random.Generator
        Chooses where only some combinations of values are allowed.
    """
    found: Allowed | None = None
    for use in meaning.uses:
        rule = rule_of(use)
        if rule is None or (rule is no_number and len(meaning.uses) > 1):
            continue  # what isn't finite is for those alone that ask for it
        given = rule(Slot(use, known, shape, rng))
        unfit = given.values is not None and given.values.size != math.prod(shape)
        if unfit or not use.whole:
            given = replace(given, values=None, guess=True)
        found = given if found is None else found.and_also(given)
    return found

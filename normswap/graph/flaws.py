"""Constant operands that are not finite, so that nothing folds into or past their node."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from normswap.graph.evaluate import constant_of
from normswap.graph.quantized import quantized
from normswap.graph.reasons import Blocked, Reason, unless_blocked

if TYPE_CHECKING:
    from normswap.finite import Flaw
    from normswap.graph.network import Node, Value

LARGEST_SUM = 26
"""Operands of an Einsum that are looked at: more than anybody writes."""

FACTORS = {
    "BatchNormalization": {1},
    "Conv": {1},
    "ConvTranspose": {1},
    "DequantizeLinear": {1},
    "Div": {0, 1},
    "Einsum": range(LARGEST_SUM),
    "Gemm": {0, 1},
    "GroupNormalization": {1},
    "InstanceNormalization": {1},
    "LayerNormalization": {1},
    "MatMul": {0, 1},
    "Mul": {0, 1},
    "RMSNormalization": {1},
}
"""By which inputs operators multiply, so that a part of one by which it is off is off the result.

What others take in is added, or is values of the result itself, which have no more digits.
"""


LINEAR = {*FACTORS, "Add", "PRelu", "Sub", "Sum"}
"""Operators whose result is not finite where a constant operand is not.

Of others, such as Where and Max, an infinite operand may be what a mask is made of.
"""


def require_sound(node: Node) -> None:
    """Let pass only a node whose constant operands are finite.

    Raises
    ------
    Blocked
        If one is not, so that nothing folds into or past the node.
    """
    if node.op not in LINEAR or node.domain:
        return
    for value in node.inputs:
        flaw = _flaw(value)
        if flaw is not None:
            raise Blocked(Reason.NON_FINITE, flaw.name, str(flaw))


def _flaw(value: Value | None) -> Flaw | None:
    """Return what is not finite of a constant, quantized or not."""
    constant = quantized(value)
    if constant is not None:
        return constant.flaw()
    plain = unless_blocked(constant_of, value)
    # The bound is kept, so that asking again reads no weights.
    if plain is None or math.isfinite(plain.bound()):
        return None
    return plain.flaw()

"""Whether the constants that a route makes can be stored as their formulas say.

They can't where a constant that goes into one is not finite, where a value is beyond the range of
its type, or so small that the type has too few digits for it (:mod:`normswap.folding.precision`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from normswap.dtypes import NUMPY_DTYPES, largest
from normswap.folding.answers import Block
from normswap.folding.edits import Edit, Insert, Replace
from normswap.folding.evaluate import constant_of
from normswap.folding.precision import lost_digits, smallest_normal
from normswap.folding.quantized import quantized
from normswap.folding.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from normswap.finite import Flaw
    from normswap.folding.expressions import Expression
    from normswap.folding.graph import Node, Value

FACTORS = {
    "BatchNormalization": {1},
    "Conv": {1},
    "ConvTranspose": {1},
    "DequantizeLinear": {1},
    "Div": {0, 1},
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


def unsound(edits: Iterable[Edit], nodes: Mapping[int, Node]) -> Block | None:
    """Say which new constant would not be what its formula says, or None.

    Parameters
    ----------
    edits : iterable of Edit
    nodes : Mapping[int, Node]
        By key, those that the edits name.
    """
    for edit in edits:
        if isinstance(edit, Replace):
            node = nodes[edit.node]
            factor = not node.domain and edit.slot in FACTORS.get(node.op, ())
        elif isinstance(edit, Insert):
            factor = 1 in FACTORS.get(edit.op, ())
        else:
            continue
        block = _unsound(edit.constant, edit.hint, factor=factor)
        if block is not None:
            return block
    return None


LINEAR = {*FACTORS, "Add", "PRelu", "Sub", "Sum"}
"""Operators whose result is not finite where a constant operand is not.

Of others, such as Where and Max, an infinite operand may be what a mask is made of.
"""


def flawed(node: Node) -> Block | None:
    """Say which constant operand of a node is not finite, so that nothing folds into or past it."""
    if node.op not in LINEAR or node.domain:
        return None
    for value in node.inputs:
        flaw = _flaw(value)
        if flaw is not None:
            return Block(Reason.NON_FINITE, flaw.name, str(flaw))
    return None


def _flaw(value: Value | None) -> Flaw | None:
    """Return what is not finite of a constant, quantized or not."""
    constant = quantized(value)
    if constant is not None:
        return constant.flaw()
    plain = constant_of(value)
    # The bound is kept, so that asking again reads no weights.
    if isinstance(plain, Block) or math.isfinite(plain.bound()):
        return None
    return plain.flaw()


def _unsound(constant: Expression, hint: str, *, factor: bool) -> Block | None:
    what = f"the new {hint}"
    match constant.problem():
        case "layout":
            return Block(Reason.SHAPE_UNKNOWN, hint, f"{what} has no place for its values")
        case "non-finite":
            flaw = constant.flaw()
            name = hint if flaw is None else flaw.name
            return Block(Reason.NON_FINITE, name, str(flaw or f"{what} is not finite"))
        case "overflow":
            dtype, most = NUMPY_DTYPES[constant.data_type].name, largest(constant.data_type)
            return Block(Reason.OVERFLOW, hint, f"{what} is beyond the range of {dtype}, {most:g}")
    if not factor or constant.least() >= smallest_normal(constant.data_type):
        return None
    lost = lost_digits(constant.wide(), constant.data_type)
    if lost is None:
        return None
    dtype = NUMPY_DTYPES[constant.data_type].name
    detail = f"{dtype} has too few digits for {what}, which would be up to {lost:.2%} off"
    return Block(Reason.UNDERFLOW, hint, detail)

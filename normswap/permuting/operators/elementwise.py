"""Operators that look at an element at a time, their inputs broadcast to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.graph.evaluate import constant_source
from normswap.graph.reasons import unless_blocked
from normswap.semantics.families import ARITHMETIC, CONTINUOUS

if TYPE_CHECKING:
    from normswap.permuting.operators.at import At

_OPS = ARITHMETIC | CONTINUOUS | {
    "Acos", "Acosh", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd",
    "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "Ceil", "Cos", "Cosh", "Equal", "Floor",
    "Greater", "GreaterOrEqual", "Identity", "IsInf", "IsNaN", "Less", "LessOrEqual", "Max",
    "Mean", "Min", "Mod", "Not", "Or", "PRelu", "Pow", "Round", "Shrink", "Sign", "Sin", "Sinh",
    "Sum", "Swish", "Tan", "ThresholdedRelu", "Where", "Xor",
}  # fmt: skip


def elementwise(at: At) -> None:
    """Tie an axis with those that are broadcast with it."""
    behind = at.rank - at.axis
    for port in at.ports():
        shape = at.shape(port)
        axis = len(shape) - behind
        if axis >= 0 and shape[axis] != 1:
            at.tie(port, axis, at.labels)


def _dropout(at: At) -> None:
    mode = at.node.input(2)
    source = None if mode is None else unless_blocked(constant_source, mode)
    if mode is not None and (source is None or source.load().any()):
        raise at.blocked("draws random numbers, which belong to positions and not to channels")
    elementwise(at)


def _cast_like(at: At) -> None:
    if at.port != (False, 1):  # of which the type alone is read
        for port in ((False, 0), (True, 0)):
            at.tie(port, at.axis, at.labels)


FOLLOW = {**dict.fromkeys(_OPS, elementwise), "Dropout": _dropout, "CastLike": _cast_like}

"""The two ways of an affine, in a few words: a model for each side of an operator."""

from __future__ import annotations

import numpy as np

from support.build import Builder

C = 6
"""Channels of the tensor that reaches the operator under test."""


def statistics(b: Builder, channels: int, *, signs="mixed", shift=True):
    """Return statistics of mixed signs, one scale 0 among them, or of scales >= 0."""
    scale, bias, mean, var = b.statistics(channels)
    scale[0] = -abs(scale[0])
    if signs == "nonnegative":
        scale = np.abs(scale)
    zero = np.zeros(channels)
    return (scale, bias, mean, var) if shift else (scale, zero, zero, var)


def upward(
    op, *, channels=C, opset=17, dtype="float32", size=7, batch="N", seed=0, out=None, **options
):
    """Conv, the operator, BN, and a Sigmoid: the BN can only go up.

    ``op(b, y)`` adds the operator under test, which reads y of shape (N, C, size-2, size-2).
    ``out`` is the shape of the output, where ONNX can't infer it.
    """
    b = Builder(opset, dtype, seed)
    y = op(b, b.conv(b.input(batch, 4, size, size), 4, C))
    y = b.bn(y, channels, stats=statistics(b, channels, **options))
    return b.output(b.node("Sigmoid", y), out).model()


def downward(
    op, *, channels=C, opset=17, dtype="float32", size=6, batch="N", seed=0, out=None, **options
):
    """BN of an input, the operator, a Conv without padding: the BN can only go down.

    ``op(b, y)`` reads y of shape (N, C, size, size) and makes a tensor of as many ``channels``.
    """
    b = Builder(opset, dtype, seed)
    y = op(b, b.bn(b.input(batch, C, size, size), C, stats=statistics(b, C, **options)))
    return b.output(b.conv(y, channels, 3, kernel=(2, 2)), out).model()


def ints(b: Builder, *values: int) -> str:
    return b.const(np.array(values, dtype=np.int64))

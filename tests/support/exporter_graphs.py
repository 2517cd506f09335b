"""What exporters write around a normalization: sizes, splits, identities, attention, weights.

Each grows a random graph (:mod:`support.random_graphs`) by some nodes, or returns without having
done so. Half of what is drawn looks like it folds, and does not.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import numpy_helper

from support.random_graphs import batch_norm

POSITIVE = 1.5


def length_of(g, x, axis):
    """The size of a tensor along an axis, as a vector of one element, by any of several ways."""
    b, kind = g.b, g.choose.integer(4)
    g.read.add(x)
    sizes = b.node("Shape", x)
    if kind == 0:
        return b.node("Gather", sizes, g.ints(axis))
    if kind == 1 and g.opset >= 15:
        return b.node("Shape", x, start=axis, end=axis + 1)
    if kind == 2 and g.opset >= 10:
        return b.node("Slice", sizes, g.ints(axis), g.ints(axis + 1))
    part = b.node("Gather", sizes, g.ints(axis))
    return b.node("Div", b.node("Mul", part, g.ints(6)), g.ints(6))


def filled(g, shape, value):
    """A tensor of one value, of a shape that is computed."""
    stored = np.array([value], g.b.np_dtype)
    if g.choose.chance(50):
        return g.b.node("ConstantOfShape", shape, value=numpy_helper.from_array(stored))
    return g.b.node("Expand", g.b.const(stored.reshape(())), shape)


def sized_bias(g):
    """A Conv whose bias is as long as a tensor has channels; the batch may be as long by chance."""
    if (found := g.operand((3, 4))) is None:
        return
    x, (n, c, *space) = found
    axis = 0 if n == c and g.choose.chance(30) else 1
    w = g.b.normal(c, c, *[1] * len(space), scale=1 / math.sqrt(c))
    bias = filled(g, length_of(g, x, axis), g.choose.one_of([0.0, POSITIVE]))
    if g.add("Conv", x, w, bias, shape=(n, c, *space)):
        g.chained = True
        batch_norm(g)
        g.chained = False


def sized_operand(g):
    """Arithmetic with a constant of the size of a tensor, or of one that has grown."""
    x, shape = g.operand()
    rank = len(shape)
    sizes = g.b.node("Shape", x)
    g.read.add(x)
    if rank < 2:
        return
    kind = g.choose.integer(3)
    if kind == 0:
        k = filled(g, sizes, POSITIVE)
    elif kind == 1:
        k = g.b.node("Expand", g.constant(shape[1], *[1] * (rank - 2)), sizes)
    else:  # twice as many samples
        factor = g.ints(*[2 if size == 1 and axis == 0 else 1 for axis, size in enumerate(shape)])
        k = filled(g, g.b.node("Mul", sizes, factor), POSITIVE)
        shape = (2 if shape[0] == 1 else shape[0], *shape[1:])
    if g.add(g.choose.one_of(["Add", "Sub", "Mul", "Div"]), x, k, shape=shape):
        g.chained = True
        batch_norm(g)
        g.chained = False


def beside_itself(g):
    """Convs of a tensor and the tensor itself, added up and normalized."""
    if (found := g.operand((3, 4))) is None:
        return
    x, shape = found
    _, c, *space = shape
    total = g.b.node("Identity", x) if g.choose.chance(20) else x
    g.read.add(x)
    for _ in range(g.choose.integer(2) + 1):
        k = g.choose.one_of([1, 3, 3])
        group = c if g.choose.chance(50) else 1
        w = g.b.normal(c, c // group, *[k] * len(space), scale=1 / (math.sqrt(c) * k))
        bias = [g.b.normal(c)] if g.choose.chance(50) else []
        y = g.b.node("Conv", x, w, *bias, group=group, pads=[k // 2] * 2 * len(space))
        if g.choose.chance(30):
            y = g.b.bn(y, c)
            g.batchnorms += 1
        terms = (y, total) if g.choose.chance(50) else (total, y)
        total = g.b.node(g.choose.one_of(["Add", "Add", "Sub"]), *terms)
    if g.add("Identity", total, shape=shape):
        g.chained = True
        batch_norm(g)
        g.chained = False


def attention(g):
    """A product with what a Softmax makes, along the axis that is summed or another one."""
    if (found := g.operand((3, 4))) is None:
        return
    x, shape = found
    *batch, c, t = shape
    w = g.b.normal(c, c, scale=1 / math.sqrt(c))
    v = g.b.node("MatMul", w, x)  # (..., c, t), channels first
    g.read.add(x)
    scores = g.b.node("MatMul", g.b.node("Transpose", x, perm=swapped(len(shape))), v)
    axis = g.choose.one_of([len(shape) - 2, len(shape) - 2, len(shape) - 1])
    p = g.b.node("Softmax", scores, axis=axis)  # (..., t, t)
    if g.choose.chance(20):
        p = g.b.node(g.choose.one_of(["Identity", "Dropout"]), p)
    if g.opset >= 12 and g.choose.chance(30):
        equation = g.choose.one_of(["...ct,...ts->...cs", "...ct,...st->...cs"])
        made = g.add("Einsum", v, p, equation=equation, shape=(*batch, c, t))
    else:
        made = g.add("MatMul", v, p, shape=(*batch, c, t))
    if made:
        g.chained = True
        batch_norm(g)
        g.chained = False


def swapped(rank):
    return [*range(rank - 2), rank - 1, rank - 2]


def taken_apart(g):
    """A tensor split into a sequence, of which one part or more is normalized."""
    if g.opset < 11 or (found := g.operand((2, 3, 4))) is None:
        return
    x, (n, c, *space) = found
    if c % 2:  # onnxruntime gives parts of two sizes one name for both, and one buffer
        return
    first = c // 2
    sequence = g.b.node("SplitToSequence", x, g.ints(first, c - first), axis=1)
    g.read.add(x)
    places = g.choose.one_of([[0], [1], [0, 1], [-1, 0], [0, 0]])
    for place in places:
        where = g.b.const(np.array(place, np.int64))
        g.add("SequenceAt", sequence, where, shape=(n, (first, c - first)[place], *space))
        g.chained = True
        if g.choose.chance(60):
            batch_norm(g)
        g.chained = False


EXPORTED = (sized_bias, sized_operand, beside_itself, attention, taken_apart)

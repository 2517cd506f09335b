"""Random graphs of the operators that an affine can meet, with BatchNormalizations strewn in.

Every decision is drawn through :class:`Choices`, so that hypothesis can shrink a graph, and a plain
random generator can make thousands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from support.build import Builder

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST = 1500
"""Elements of a tensor at most: the reference evaluator is no fast one."""

LARGEST_AXIS = 24


@dataclass
class Choices:
    """A source of decisions: ``integer(n)`` is one of 0 .. n-1."""

    integer: Callable[[int], int]

    def one_of(self, items):
        return items[self.integer(len(items))]

    def chance(self, percent: int) -> bool:
        return self.integer(100) >= 100 - percent


@dataclass
class RandomGraph:
    """A graph that grows by operators on tensors of known shape."""

    choose: Choices
    b: Builder
    tensors: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    batchnorms: int = 0
    chained: bool = False  # the next operator reads what the one before made

    def add(self, op, *inputs, shape, outputs=1, **attrs):
        """Add a node and note its (first) output."""
        if math.prod(shape) > LARGEST or max(shape, default=1) > LARGEST_AXIS or 0 in shape:
            return None
        names = self.b.node(op, *inputs, outputs=outputs, **attrs)
        first = names if outputs == 1 else names[0]
        self.read.update(inputs)
        self.tensors.append((first, tuple(shape)))
        return first

    def operand(self, rank=None):
        """Return a tensor, a recent one more often than not."""
        fitting = [t for t in self.tensors if rank is None or len(t[1]) in rank]
        if not fitting:
            return None
        if self.chained and self.tensors[-1] not in fitting:
            return None if rank else self.tensors[-1]
        recent = fitting[-1:] if self.chained else fitting[-3:]
        return self.choose.one_of(recent if self.chained or self.choose.chance(75) else fitting)

    def like(self, shape):
        """Return a tensor of the same shape."""
        same = [name for name, other in self.tensors if other == shape]
        return self.choose.one_of(same) if same else None

    @property
    def opset(self):
        return self.b.opset

    def ints(self, *values):
        return self.b.const(np.array(values, dtype=np.int64))

    def listed(self, name, values, since):
        """Return a list of integers as an operand, or as an attribute before opset ``since``."""
        values = list(values)
        return ([self.ints(*values)], {}) if self.opset >= since else ([], {name: values})

    def constant(self, *shape):
        return self.b.const(self.b.rng.uniform(0.5, 1.5, shape) * self.b.rng.choice([-1, 1], shape))


# Each grows the graph by an operator (or returns without having done so).


def batch_norm(g):
    if (found := g.operand((2, 3, 4))) is None:
        return
    x, shape = found
    channels = shape[1]
    scale, bias, mean, var = g.b.statistics(channels)
    kind = g.choose.one_of(
        ["mixed", "mixed", "positive", "no shift", "positive, no shift", "shift"]
    )
    if "positive" in kind:
        scale = abs(scale)
    if "no shift" in kind:
        bias, mean = bias * 0, mean * 0
    if kind == "shift":
        scale, var = scale * 0 + 1, var * 0 + 1
    epsilon = 0.0 if kind == "shift" else g.choose.one_of([1e-5, 0.1])
    parameters = [g.b.const(v) for v in (scale, bias, mean, var)]
    g.add("BatchNormalization", x, *parameters, shape=shape, epsilon=epsilon)
    g.batchnorms += 1


def conv(g):
    if (found := g.operand((3, 4))) is None:
        return
    x, (n, c, *space) = found
    m = g.choose.one_of([c, 2, 4])
    group = c if m == c and g.choose.chance(30) else 1
    kernel = [g.choose.one_of([k for k in (1, 2, 3) if k <= size]) for size in space]
    pad = g.choose.integer(2) if g.choose.chance(50) else 0
    stride = g.choose.one_of([1, 1, 2])
    inputs = [x, g.b.normal(m, c // group, *kernel, scale=1 / math.sqrt(c * math.prod(kernel)))]
    if g.choose.chance(60):
        inputs.append(g.b.normal(m))
    after = [(size + 2 * pad - k) // stride + 1 for size, k in zip(space, kernel, strict=True)]
    g.add(
        "Conv",
        *inputs,
        shape=(n, m, *after),
        group=group,
        pads=[pad] * 2 * len(space),
        strides=[stride] * len(space),
    )


def conv_transpose(g):
    if (found := g.operand((4,))) is None:
        return
    x, (n, c, *space) = found
    m, kernel, stride = g.choose.one_of([2, 4]), g.choose.integer(2) + 1, g.choose.integer(2) + 1
    after = [(size - 1) * stride + kernel for size in space]
    w = g.b.normal(c, m, kernel, kernel, scale=1 / math.sqrt(c * kernel))
    g.add("ConvTranspose", x, w, shape=(n, m, *after), strides=[stride] * 2)


def activation(g):
    x, shape = g.operand()
    op = g.choose.one_of(
        ["Relu", "Relu", "LeakyRelu", "Abs", "Neg", "Identity", "Sigmoid", "PRelu"]
    )
    slope = (
        [g.constant(shape[1], *[1] * (len(shape) - 2))] if op == "PRelu" and len(shape) > 1 else []
    )
    if op == "PRelu" and not slope:
        return
    g.add(op, x, *slope, shape=shape)


def pool(g):
    if (found := g.operand((4,))) is None:
        return
    x, (n, c, h, w) = found
    op = g.choose.one_of(["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
    if op.startswith("Global"):
        g.add(op, x, shape=(n, c, 1, 1))
    elif min(h, w) >= 2:
        pad = g.choose.integer(2)
        counted = {"count_include_pad": g.choose.integer(2)} if op == "AveragePool" else {}
        after = (h + 2 * pad - 1, w + 2 * pad - 1)
        g.add(op, x, shape=(n, c, *after), kernel_shape=[2, 2], pads=[pad] * 4, **counted)


def reduce(g):
    if (found := g.operand((3, 4))) is None:
        return
    x, shape = found
    op = g.choose.one_of(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"])
    axes = [g.choose.integer(len(shape) - 1) + 1]
    if g.choose.chance(50):
        axes = list(range(2, len(shape)))
    keep = g.choose.integer(2)
    after = [1 if i in axes else size for i, size in enumerate(shape) if keep or i not in axes]
    operands, attrs = g.listed("axes", axes, 13 if op == "ReduceSum" else 18)
    g.add(op, x, *operands, shape=after, keepdims=keep, **attrs)


def transpose(g):
    x, shape = g.operand()
    perms = [
        p
        for p in ([0, 2, 1], [0, 2, 3, 1], [0, 3, 1, 2], [1, 0], [0, 1, 3, 2])
        if len(p) == len(shape)
    ]
    if perms:
        perm = g.choose.one_of(perms)
        g.add("Transpose", x, shape=[shape[i] for i in perm], perm=perm)


def reshape(g):
    x, shape = g.operand()
    size = math.prod(shape)
    kinds = [
        (shape[0], -1),
        (shape[0], -1, shape[-1]),
        (-1, shape[-1]),
        (*shape, 1),
        (*shape[:-1], 1, shape[-1]),
    ]
    if len(shape) > 2:
        kinds += [(*shape[:2], -1), (shape[0] * shape[1], *shape[2:])]
    if len(shape) > 1 and shape[1] % 2 == 0:
        kinds += [
            (shape[0], shape[1] // 2, 2, *shape[2:]),
            (shape[0] * 2, shape[1] // 2, *shape[2:]),
        ]
    target = list(g.choose.one_of(kinds))
    if -1 in target:
        target[target.index(-1)] = size // -math.prod(target)
    if len(target) <= 5:
        g.add("Reshape", x, g.ints(*target), shape=target)


def flatten(g):
    x, shape = g.operand()
    axis = g.choose.integer(len(shape)) + (len(shape) > 1)
    axis = min(axis, len(shape))
    g.add("Flatten", x, shape=(math.prod(shape[:axis]), math.prod(shape[axis:])), axis=axis)


def squeeze(g):
    x, shape = g.operand()
    axes = [i for i, size in enumerate(shape) if size == 1 and i > 0]
    if axes and len(shape) > 2:
        axis = g.choose.one_of(axes)
        operands, attrs = g.listed("axes", [axis], 13)
        g.add("Squeeze", x, *operands, shape=shape[:axis] + shape[axis + 1 :], **attrs)


def pad(g):
    if (found := g.operand((3, 4))) is None:
        return
    x, shape = found
    mode = g.choose.one_of(["constant", "edge", "reflect"])
    axis = g.choose.integer(len(shape) - 1) + 1
    if mode == "reflect" and shape[axis] < 3:
        return
    before, after = [0] * len(shape), [0] * len(shape)
    before[axis], after[axis] = g.choose.integer(3), g.choose.integer(2)
    total = [a + b + s for a, b, s in zip(before, after, shape, strict=True)]
    operands, attrs = g.listed("pads", before + after, 11)
    g.add("Pad", x, *operands, shape=total, mode=mode, **attrs)


def resize(g):
    if (found := g.operand((4,))) is None:
        return
    x, (n, c, h, w) = found
    mode = g.choose.one_of(["nearest", "linear"])
    scales = g.b.const(np.array([1.0, 1.0, 2.0, 2.0]), dtype=np.float32)
    operands = [scales] if g.opset < 11 else ["", scales]
    if g.opset in (11, 12):  # roi may not be left out
        operands[0] = g.b.const(np.zeros(0), dtype=np.float32)
    op = "Resize" if g.opset >= 10 else "Upsample"
    g.add(op, x, *operands, shape=(n, c, 2 * h, 2 * w), mode=mode)


def slice_(g):
    x, shape = g.operand()
    axis = g.choose.integer(len(shape))
    size = shape[axis]
    start, step = g.choose.integer(size), g.choose.one_of([1, 1, 2, -1])
    end = -size - 1 if step < 0 else size
    length = len(range(size)[slice(start, None if step < 0 else end, step)])
    after = (*shape[:axis], length, *shape[axis + 1 :])
    if g.opset >= 10:
        g.add("Slice", x, *[g.ints(v) for v in (start, end, axis, step)], shape=after)
    elif step == 1:
        g.add("Slice", x, shape=after, starts=[start], ends=[end], axes=[axis])


def split(g):
    x, shape = g.operand()
    axis = 1 if len(shape) > 1 and g.choose.chance(80) else len(shape) - 1
    if shape[axis] < 2:
        return
    first = 1 + g.choose.integer(shape[axis] - 1)
    sizes = (first, shape[axis] - first)
    operands, attrs = g.listed("split", sizes, 13)
    names = g.b.node("Split", x, *operands, outputs=2, axis=axis, **attrs)
    g.read.add(x)
    for name, size in zip(names, sizes, strict=True):
        g.tensors.append((name, (*shape[:axis], size, *shape[axis + 1 :])))


def gather(g):
    x, shape = g.operand()
    axis = g.choose.integer(len(shape))
    count = g.choose.integer(3) + 1
    indices = [g.choose.integer(shape[axis]) for _ in range(count)]
    g.add(
        "Gather", x, g.ints(*indices), shape=(*shape[:axis], count, *shape[axis + 1 :]), axis=axis
    )


def concat(g):
    x, shape = g.operand()
    axis = 1 if len(shape) > 1 and g.choose.chance(70) else len(shape) - 1
    others = [
        (name, other)
        for name, other in g.tensors
        if len(other) == len(shape)
        and all(a == b for i, (a, b) in enumerate(zip(shape, other, strict=True)) if i != axis)
    ]
    z, other = g.choose.one_of(others)
    after = (*shape[:axis], shape[axis] + other[axis], *shape[axis + 1 :])
    g.add("Concat", *((x, z) if g.choose.chance(50) else (z, x)), shape=after, axis=axis)


def combine(g):
    x, shape = g.operand()
    z = g.like(shape)
    op = g.choose.one_of(["Add", "Add", "Sub", "Sum", "Mean", "Max", "Min", "Mul"])
    g.add(op, x, z, shape=shape)


def constant(g):
    x, shape = g.operand()
    kinds = [(), (1,), (shape[-1],), (*[1] * (len(shape) - 1), shape[-1])]
    if len(shape) > 1:
        kinds += [(shape[1], *[1] * (len(shape) - 2))] * 3
    k = g.constant(*g.choose.one_of(kinds))
    op = g.choose.one_of(["Add", "Sub", "Mul", "Div", "Max"])
    g.add(op, *((k, x) if op != "Div" and g.choose.chance(40) else (x, k)), shape=shape)


def where(g):
    x, shape = g.operand()
    condition = g.b.const(g.b.rng.integers(0, 2, shape[-1:]).astype(bool))
    g.add("Where", condition, x, g.like(shape), shape=shape)


def gemm(g):
    if (found := g.operand((2,))) is None:
        return
    x, (m, k) = found
    n, transposed = g.choose.one_of([2, 4]), g.choose.integer(2)
    w = g.b.normal(*((n, k) if transposed else (k, n)), scale=1 / math.sqrt(k))
    addend = g.choose.one_of([None if g.opset >= 11 else (n,), (n,), (m, 1), (), (m, n)])
    inputs = [x, w] + ([] if addend is None else [g.b.normal(*addend)])
    g.add(
        "Gemm",
        *inputs,
        shape=(m, n),
        transB=transposed,
        alpha=g.choose.one_of([1.0, 0.5]),
        beta=g.choose.one_of([1.0, -2.0]),
    )


def matmul(g):
    x, shape = g.operand()
    n = g.choose.one_of([2, 4])
    if g.choose.chance(60):
        w = g.b.normal(shape[-1], n, scale=1 / math.sqrt(shape[-1]))
        g.add("MatMul", x, w, shape=(*shape[:-1], n))
    elif len(shape) > 1:
        w = g.b.normal(n, shape[-2], scale=1 / math.sqrt(shape[-2]))
        g.add("MatMul", w, x, shape=(*shape[:-2], n, shape[-1]))


def depth_to_space(g):
    if (found := g.operand((4,))) is None:
        return
    x, (n, c, h, w) = found
    if c % 4 == 0 and g.choose.chance(60):
        mode = {"mode": g.choose.one_of(["DCR", "CRD"])} if g.opset >= 11 else {}
        g.add("DepthToSpace", x, shape=(n, c // 4, 2 * h, 2 * w), blocksize=2, **mode)
    elif h % 2 == 0 and w % 2 == 0:
        g.add("SpaceToDepth", x, shape=(n, 4 * c, h // 2, w // 2), blocksize=2)


def expand(g):
    if (found := g.operand((3, 4))) is None:
        return
    x, shape = found
    if g.choose.chance(50):
        repeats = [1, *[g.choose.integer(2) + 1 for _ in shape[1:]]]
        after = [a * b for a, b in zip(shape, repeats, strict=True)]
        g.add("Tile", x, g.ints(*repeats), shape=after)
    elif 1 in shape[1:]:
        after = [2 if size == 1 else size for size in shape]
        g.add("Expand", x, g.ints(*after), shape=after)


def instance_norm(g):
    if (found := g.operand((3, 4))) is None:
        return
    x, shape = found
    if math.prod(shape[2:]) > 1:
        parameters = [g.constant(shape[1]) for _ in range(2)]
        g.add("InstanceNormalization", x, *parameters, shape=shape, epsilon=0.1)


def layer_norm(g):
    x, shape = g.operand()
    if shape[-1] > 1 and g.opset >= 17:
        parameters = [g.constant(shape[-1]) for _ in range(2)]
        g.add("LayerNormalization", x, *parameters, shape=shape, epsilon=0.1)


LINEAR = (conv, conv, conv_transpose, gemm, matmul)


def route_up(g):
    """A linear operator, some others one after another, and a BatchNormalization."""
    g.choose.one_of(LINEAR)(g)
    g.chained = True
    for _ in range(g.choose.integer(3) + 1):
        g.choose.one_of(CARRIERS)(g)
    batch_norm(g)
    g.chained = False


def route_down(g):
    """A BatchNormalization, some others one after another, and a linear operator."""
    batch_norm(g)
    g.chained = True
    for _ in range(g.choose.integer(3) + 1):
        g.choose.one_of(CARRIERS)(g)
    g.choose.one_of(LINEAR)(g)
    g.chained = False


CARRIERS = (
    *(activation, combine, constant, concat, split, pool, reduce, transpose, reshape, flatten),
    *(squeeze, pad, resize, slice_, gather, where, depth_to_space, expand, instance_norm),
)

GROW = (
    (batch_norm,) * 8
    + (conv,) * 5
    + (route_up, route_down) * 10
    + (activation, gemm, matmul) * 3
    + (conv_transpose, combine, constant, concat, split, pool) * 2
    + (reduce, transpose, reshape, flatten, squeeze, pad, resize, slice_, gather, where)
    + (depth_to_space, expand, instance_norm, layer_norm)
)


def random_graph(choose: Choices, *, nodes: int, seed: int, dtype: str = "float64"):
    """Return a model of about as many nodes, and how many BatchNormalizations it has."""
    g = RandomGraph(choose, Builder(17, dtype, seed))
    batch = 2
    symbolic = choose.chance(30)
    shape = choose.one_of([(batch, 4, 5, 6), (batch, 3, 4, 4), (batch, 4, 6), (batch, 6)])
    g.b.input(*(("N", *shape[1:]) if symbolic else shape))
    g.tensors.append(("x", shape))
    for _ in range(nodes):
        choose.one_of(GROW)(g)
    if not g.b.nodes:
        batch_norm(g)
    loose = [(name, shape) for name, shape in g.tensors if name not in g.read and name != "x"]
    extra = [t for t in g.tensors if t[0] in g.read and t[0] != "x" and choose.chance(4)]
    for name, size in loose + extra:
        g.b.output(name, [None] * len(size) if symbolic else size)
    return g.b.model(), g.batchnorms

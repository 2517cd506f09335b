"""Random graphs of what has folded wrong before, beside what :mod:`support.random_graphs` draws.

Poolings whose sizes are rounded up, operands that let a tensor grow, normalizations of which
several outputs are read or whose epsilon is 0, arithmetic before and behind, weights that are
shared, computed, tiny or huge; all of it in several element types, opsets and scopes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto

from support import random_scopes
from support.build import Builder
from support.exporter_graphs import EXPORTED
from support.random_graphs import GROW, Choices, RandomGraph, batch_norm, route_down, route_up

OPSETS = (9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)
DTYPES = ("float64", "float64", "float64", "float32", "float16")


class RichBuilder(Builder):
    """Makes constants that are shared, computed by nodes, or of unusual size now and then."""

    def __init__(self, choose: Choices, opset: int, dtype: str, seed: int) -> None:
        super().__init__(opset, dtype, seed)
        self.choose = choose
        self.shareable: dict[tuple[int, ...], list[str]] = {}

    def normal(self, *shape, name=None, scale=1.0):
        if self.choose.chance(6):
            scale = scale * 10.0 ** self.choose.one_of([-6, -5, -4, -3, 2, 3])
        return self.weight(self.rng.normal(size=shape) * scale)

    def weight(self, array):
        """Return a constant that is another one, that nodes compute, or an initializer."""
        same = self.shareable.setdefault(np.shape(array), [])
        if same and self.choose.chance(12):
            return self.choose.one_of(same)
        name = self.computed(np.asarray(array)) if self.choose.chance(12) else self.const(array)
        same.append(name)
        return name

    def computed(self, array):
        """Return what nodes compute from constants."""
        kinds = ["Constant", "Identity", "Mul", "Add", "Reshape", "Cast"]
        kinds += ["Transpose"] if array.ndim > 1 else []
        kinds += ["Unsqueeze"] * 2 if 1 in array.shape and array.ndim > 1 else []
        kind = self.choose.one_of(kinds)
        if kind == "Constant":
            value = onnx.numpy_helper.from_array(array.astype(self.np_dtype))
            return self.node("Constant", value=value)
        if kind == "Identity":
            return self.node("Identity", self.const(array))
        if kind == "Mul":
            factor = self.rng.uniform(0.5, 2.0, array.shape)
            return self.node("Mul", self.const(array / factor), self.const(factor))
        if kind == "Add":
            part = self.rng.uniform(0.0, 1.0, array.shape)
            return self.node("Add", self.const(array * part), self.const(array * (1 - part)))
        if kind == "Reshape":
            shape = self.const(np.array(array.shape, dtype=np.int64))
            return self.node("Reshape", self.const(array.reshape(-1)), shape)
        if kind == "Cast":
            return self.node("Cast", self.const(array, dtype=np.float32), to=self.elem_type)
        if kind == "Transpose":
            perm = [int(i) for i in self.rng.permutation(array.ndim)]
            return self.node("Transpose", self.const(array.transpose(np.argsort(perm))), perm=perm)
        axes = [i for i, size in enumerate(array.shape) if size == 1]
        squeezed = self.const(
            array.reshape([n for i, n in enumerate(array.shape) if i not in axes])
        )
        return self.node(
            "Unsqueeze", squeezed, *(given := self.axes(axes, array.ndim))[0], **given[1]
        )

    def axes(self, axes, rank):
        """Return axes in any order, some from the end: as an operand, or before opset 13 not."""
        axes = [int(axis) for axis in self.rng.permutation(axes)]
        if self.opset >= 11:  # before, none may be negative
            axes = [axis - rank if self.choose.chance(30) else axis for axis in axes]
        if self.opset >= 13:
            return [self.const(np.array(axes, dtype=np.int64))], {}
        return [], {"axes": axes}

    def statistics(self, channels, *, positive=False):
        scale, bias, mean, var = super().statistics(channels, positive=positive)
        if self.choose.chance(20):
            scale = scale * 10.0 ** self.choose.one_of([-6, -5, -4, -2, 2, 3])
        if self.choose.chance(12):
            var = var * 10.0 ** self.choose.one_of([-4, -2, 2, 4])
        if self.choose.chance(8):
            mean = mean * 100
        return scale, bias, mean, var


@dataclass
class RichGraph(RandomGraph):
    """A graph some of whose results are read from outside."""

    outside: list[tuple[str, int, int]] = field(default_factory=list)
    """Names, element types and ranks."""

    def constant(self, *shape):
        rng = self.b.rng
        return self.b.weight(rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape))

    def read_outside(self, name, elem_type, rank):
        self.outside.append((name, elem_type, rank))


# Poolings and convolutions ------------------------------------------------------------------------


def window(g, space, *, dilated, ceil, padded):
    """Return attributes of a window, and the sizes that onnxruntime makes with them."""
    auto = g.choose.one_of(["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
    kernel, strides, dilations, pads, after = [], [], [], [], []
    up = ceil and g.choose.chance(60)
    for size in space:
        k, d = g.choose.integer(3) + 1, 1 + (dilated and g.choose.chance(20))
        s = g.choose.integer(k if auto.startswith("SAME") else 3) + 1
        before, behind = (g.choose.integer(k), g.choose.integer(k)) if padded else (0, 0)
        if auto != "NOTSET":
            before = behind = 0
        total, reach = before + behind, (k - 1) * d + 1
        if auto.startswith("SAME"):  # which pads as if there were no dilation
            total = max((-(-size // s) - 1) * s + k - size, 0)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
        if size + total < reach:
            return None
        steps = (size + total - reach) / s
        count = (math.ceil(steps) if up else math.floor(steps)) + 1
        if up and (count - 1) * s >= size + before:
            count -= 1
        kernel.append(k)
        strides.append(s)
        dilations.append(d)
        pads.append((before, behind))
        after.append(count)
    attrs = {"kernel_shape": kernel, "strides": strides}
    if any(d > 1 for d in dilations):
        attrs["dilations"] = dilations
    if auto != "NOTSET":
        attrs["auto_pad"] = auto
    elif padded:
        attrs["pads"] = [before for before, _ in pads] + [behind for _, behind in pads]
    if up:
        attrs["ceil_mode"] = 1
    return attrs, after


def any_pool(g):
    if (found := g.operand((3, 4))) is None:
        return
    x, (n, c, *space) = found
    op = g.choose.one_of(["MaxPool", "MaxPool", "AveragePool", "AveragePool", "LpPool"])
    dilated = g.opset >= {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[op]
    ceil = g.opset >= {"MaxPool": 10, "AveragePool": 10, "LpPool": 18}[op]
    drawn = window(g, space, dilated=dilated, ceil=ceil, padded=g.choose.chance(70))
    if drawn is None:
        return
    attrs, after = drawn
    if op == "AveragePool":
        attrs["count_include_pad"] = g.choose.integer(2)
    if op == "LpPool":
        attrs["p"] = g.choose.integer(2) + 1
    if op == "MaxPool" and g.choose.chance(20):
        if g.add(op, x, shape=(n, c, *after), outputs=2, **attrs) and g.choose.chance(60):
            g.read_outside(g.b.nodes[-1].output[1], TensorProto.INT64, 2 + len(after))
    else:
        g.add(op, x, shape=(n, c, *after), **attrs)


def same_conv(g):
    """A Conv that pads by itself: as much as the sizes ask for."""
    if (found := g.operand((3, 4))) is None:
        return
    x, (n, c, *space) = found
    drawn = window(g, space, dilated=False, ceil=False, padded=True)
    if drawn is None:
        return
    attrs, after = drawn
    m = g.choose.one_of([c, 2, 4])
    kernel = attrs["kernel_shape"]
    w = g.b.normal(m, c, *kernel, scale=1 / math.sqrt(c * math.prod(kernel)))
    bias = [g.b.normal(m)] if g.choose.chance(50) else []
    g.add("Conv", x, w, *bias, shape=(n, m, *after), **attrs)


def any_conv_transpose(g):
    if (found := g.operand((3, 4))) is None:
        return
    x, (n, c, *space) = found
    m, k, s = g.choose.one_of([2, 4]), g.choose.integer(3) + 1, g.choose.integer(3) + 1
    rank = len(space)
    attrs = {"strides": [s] * rank}
    extra = g.choose.integer(s) if g.choose.chance(40) else 0
    pad = g.choose.integer(2)
    after = [(size - 1) * s + k + extra - 2 * pad for size in space]
    if min(after) < 1:
        return
    if extra:
        attrs["output_padding"] = [extra] * rank
    if g.choose.chance(25):
        attrs["output_shape"] = after
    else:
        attrs["pads"] = [pad] * 2 * rank
    group = c if g.choose.chance(20) else 1
    w = g.b.normal(c, m, *[k] * rank, scale=1 / math.sqrt(c * k))
    bias = [g.b.normal(m * group)] if g.choose.chance(50) else []
    g.add("ConvTranspose", x, w, *bias, shape=(n, m * group, *after), group=group, **attrs)


def size_matters(g):
    """A pooling, what leans on its size, and a BatchNormalization; or the other way round."""
    batch_norm(g) if g.choose.chance(60) else same_conv(g)
    g.chained = True
    any_pool(g)
    for _ in range(g.choose.integer(2) + 1):
        g.choose.one_of([same_conv, total, global_pool, any_pool])(g)
    if g.choose.chance(50):
        batch_norm(g)
    g.chained = False


def total(g):
    if (found := g.operand((3, 4))) is None:
        return
    x, shape = found
    axes = list(range(2, len(shape)))
    if g.choose.chance(30):
        axes = axes[1:] or axes
    operands, attrs = g.listed("axes", axes, 13)
    after = [1 if i in axes else size for i, size in enumerate(shape)]
    g.add("ReduceSum", x, *operands, shape=after, keepdims=1, **attrs)


def global_pool(g):
    if (found := g.operand((3, 4))) is None:
        return
    x, (n, c, *space) = found
    op = g.choose.one_of(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
    g.add(op, x, shape=(n, c, *[1] * len(space)))


# Arithmetic ---------------------------------------------------------------------------------------


def broadcast(g, x, shape, target, ops):
    op = g.choose.one_of(ops)
    if op == "Where":
        condition = g.b.const(g.b.rng.integers(0, 2, target).astype(bool))
        g.add("Where", condition, x, g.constant(*[1] * len(target)), shape=target)
        return
    k = g.b.weight(np.ones(target)) if g.choose.chance(40) else g.constant(*target)
    reverse = op != "Div" and g.choose.chance(40)
    g.add(op, *((k, x) if reverse else (x, k)), shape=np.broadcast_shapes(shape, target))


def grow(g):
    """An operand that lets a tensor grow: along space, the channels, the batch, or in rank."""
    x, shape = g.operand()
    target = [g.choose.one_of([1, 2, 3, 5]) if size == 1 else size for size in shape]
    target = [
        1 if size != 1 and g.choose.chance(30) else t for size, t in zip(shape, target, strict=True)
    ]
    if len(target) < 4 and g.choose.chance(20):
        target = [g.choose.one_of([1, 2]), *target]
    broadcast(
        g,
        x,
        shape,
        target,
        ["Mul", "Mul", "Div", "Add", "Sub", "Max", "Sum", "Where"]
        if np.broadcast_shapes(shape, target) == tuple(target)
        else ["Mul", "Div", "Add", "Sub"],
    )


def grow_by_tensor(g):
    """Two results of different shapes, one of which the other one's grows to."""
    x, shape = g.operand()

    def fits(other):
        try:
            return np.broadcast_shapes(shape, other) and other != shape
        except ValueError:
            return False

    others = [(name, other) for name, other in g.tensors if fits(other)]
    if others:
        z, other = g.choose.one_of(others)
        op = g.choose.one_of(["Add", "Mul", "Sub", "Sum", "Max"])
        operands = (x, z) if g.choose.chance(50) else (z, x)
        g.add(op, *operands, shape=np.broadcast_shapes(shape, other))


def shrink_and_grow(g):
    """A linear operator, one element a channel of it, growth, and a BatchNormalization."""
    same_conv(g)
    g.chained = True
    global_pool(g)
    grow(g)
    if g.choose.chance(50):
        grow(g)
    batch_norm(g)
    g.chained = False


def arithmetic(g):
    """Several constants, one after another."""
    if (found := g.operand((2, 3, 4))) is None:
        return
    x, shape = found
    chained, g.chained = g.chained, True
    for _ in range(g.choose.integer(4) + 1):
        op = g.choose.one_of(["Add", "Sub", "Mul", "Div", "Neg"])
        if op == "Neg":
            x = g.add("Neg", x, shape=shape)
        else:
            size = g.choose.one_of([(), (1,), (shape[1], *[1] * (len(shape) - 2))])
            k = g.constant(*size)
            reverse = op != "Div" and g.choose.chance(30)
            x = g.add(op, *((k, x) if reverse else (x, k)), shape=shape)
        if x is None:
            break
    g.chained = chained


def surrounded(g):
    """A BatchNormalization between constants, as decomposed ones are."""
    if g.choose.chance(60):
        same_conv(g)
    g.chained = True
    arithmetic(g)
    batch_norm(g)
    arithmetic(g)
    if g.choose.chance(30):
        batch_norm(g)
    g.chained = False
    if g.choose.chance(40):
        same_conv(g)


# Normalizations and others with several outputs ---------------------------------------------------


def magnitudes(g, count):
    """Scales of equal signs and different magnitudes, or of any sign."""
    rng = g.b.rng
    values = rng.uniform(0.5, 1.5, count) * g.choose.one_of([1, -1, 10])
    if g.choose.chance(30):
        values = values * rng.choice([-1, 1], count)
    return g.b.weight(values)


def any_layer_norm(g):
    x, shape = g.operand()
    axis = g.choose.integer(len(shape) - 1) + 1 if len(shape) > 1 else 0
    rest = shape[axis:]
    if g.opset < 17 or math.prod(rest) < 2:
        return
    parameters = [g.constant(*rest) for _ in range(g.choose.integer(2) + 1)]
    outputs = g.choose.one_of([1, 1, 2, 3])
    made = g.add(
        "LayerNormalization",
        x,
        *parameters,
        shape=shape,
        outputs=outputs,
        axis=axis - len(shape) if g.choose.chance(50) else axis,
        epsilon=g.choose.one_of([0.0, 1e-5, 0.1]),
    )
    if made and outputs > 1:
        for name in g.b.nodes[-1].output[1:]:
            if g.choose.chance(60):
                g.read_outside(name, TensorProto.FLOAT, len(shape))


def any_instance_norm(g):
    if (found := g.operand((3, 4))) is None:
        return
    x, shape = found
    if math.prod(shape[2:]) > 1:
        scale, bias = magnitudes(g, shape[1]), g.constant(shape[1])
        epsilon = g.choose.one_of([0.0, 1e-5, 0.1])
        g.add("InstanceNormalization", x, scale, bias, shape=shape, epsilon=epsilon)


def group_norm(g):
    if g.opset < 21 or (found := g.operand((3, 4))) is None:
        return
    x, shape = found
    groups = g.choose.one_of([k for k in (1, 2, 4) if shape[1] % k == 0])
    if math.prod(shape[1:]) // groups < 2:
        return
    scale, bias = magnitudes(g, shape[1]), g.constant(shape[1])
    epsilon = g.choose.one_of([0.0, 0.0, 1e-5, 0.1])
    g.add("GroupNormalization", x, scale, bias, shape=shape, num_groups=groups, epsilon=epsilon)


def softmax(g):
    x, shape = g.operand()
    op = g.choose.one_of(["Softmax", "LogSoftmax", "LpNormalization"])
    axis = g.choose.integer(len(shape))
    if op == "LpNormalization":
        g.add(op, x, shape=shape, axis=axis, p=2)
    else:
        g.add(op, x, shape=shape, axis=axis)


def bounded(g):
    x, shape = g.operand()
    op = g.choose.one_of(["Clip", "Elu", "HardSigmoid", "ThresholdedRelu", "Softplus"])
    if op == "Clip" and g.opset < 11:
        g.add(op, x, shape=shape, min=-1.0, max=6.0)
    elif op == "Clip":
        low = [g.b.const(np.array(0.0)), g.b.const(np.array(6.0))]
        g.add(op, x, *low, shape=shape)
    elif op == "ThresholdedRelu" and g.opset < 10:
        return
    else:
        g.add(op, x, shape=shape)


def dropout(g):
    x, shape = g.operand()
    outputs = g.choose.one_of([1, 2])
    if g.opset >= 12:
        ratio = [g.b.const(np.array(0.3))] if g.choose.chance(60) else []
        made = g.add("Dropout", x, *ratio, shape=shape, outputs=outputs)
    else:
        made = g.add("Dropout", x, shape=shape, outputs=outputs, ratio=0.3)
    if made and outputs == 2 and g.opset >= 10 and g.choose.chance(50):
        g.read_outside(g.b.nodes[-1].output[1], TensorProto.BOOL, len(shape))


def training(g):
    """A BatchNormalization that normalizes with the statistics of the batch."""
    if (found := g.operand((2, 3, 4))) is None:
        return
    x, shape = found
    parameters = [g.b.const(abs(v) + 0.1) for v in g.b.statistics(shape[1])]
    attrs = {"training_mode": 1} if g.opset >= 14 else {}
    outputs = 3 if attrs else 5
    if g.add("BatchNormalization", x, *parameters, shape=shape, outputs=outputs, **attrs):
        g.batchnorms += 1


def before_norm(g):
    """A BatchNormalization, and another normalization behind it or behind what carries."""
    batch_norm(g)
    g.chained = True
    if g.choose.chance(30):
        arithmetic(g)
    g.choose.one_of([any_layer_norm, any_instance_norm, group_norm, dropout, any_pool])(g)
    g.chained = False


# Axes ---------------------------------------------------------------------------------------------


def unsqueeze(g):
    x, shape = g.operand()
    count = g.choose.integer(2) + 1
    rank = len(shape) + count
    if rank > 5:
        return
    axes = sorted(int(axis) for axis in g.b.rng.permutation(rank)[:count])
    after = list(shape)
    for axis in axes:
        after.insert(axis, 1)
    operands, attrs = g.b.axes(axes, rank)
    g.add("Unsqueeze", x, *operands, shape=after, **attrs)


def squeeze_several(g):
    x, shape = g.operand()
    axes = [axis for axis, size in enumerate(shape) if size == 1]
    axes = axes[: g.choose.integer(len(axes) + 1)]
    if axes and len(shape) - len(axes) > 1:
        operands, attrs = g.b.axes(axes, len(shape))
        after = [size for axis, size in enumerate(shape) if axis not in axes]
        g.add("Squeeze", x, *operands, shape=after, **attrs)


RICH = (
    (size_matters, shrink_and_grow, surrounded, before_norm) * 8
    + (any_pool, grow, grow_by_tensor, arithmetic, same_conv) * 4
    + (any_layer_norm, any_instance_norm, group_norm, dropout, unsqueeze, squeeze_several) * 2
    + (total, global_pool, any_conv_transpose, training, softmax, bounded)
    + EXPORTED * 4
)


@dataclass(frozen=True)
class Case:
    """A graph to fold, and how.

    Attributes
    ----------
    model : onnx.ModelProto
    batchnorms : int
        How many BatchNormalizations there are in the file.
    options : dict
        For :func:`normswap.folding.planner.make_plan`.
    words : str
        What was drawn, for a message.
    """

    model: onnx.ModelProto
    batchnorms: int
    options: dict
    words: str


def rich_graph(choose: Choices, *, nodes: int, seed: int) -> Case:
    """Return a random graph of about as many nodes."""
    opset, dtype = choose.one_of(OPSETS), choose.one_of(DTYPES)
    g = RichGraph(choose, RichBuilder(choose, opset, dtype, seed))
    batch = choose.one_of([2, 2, 1])
    symbolic = choose.chance(25)
    space = [choose.integer(5) + 3 for _ in range(2)]
    shape = choose.one_of(
        [(batch, 4, *space), (batch, 4, *space), (batch, 3, 4, 4), (batch, 4, space[0]), (batch, 6)]
    )
    g.b.input(*(("N", *shape[1:]) if symbolic else shape))
    g.tensors.append(("x", shape))
    for _ in range(nodes):
        choose.one_of(RICH if choose.chance(60) else GROW)(g)
    if not g.batchnorms:
        batch_norm(g)
    if not g.b.nodes:
        g.add("Relu", "x", shape=shape)
    shapes = dict(g.tensors)
    wanted = [name for name, _ in g.tensors if name not in g.read and name != "x"]
    wanted += [name for name in shapes if name in g.read and name != "x" and choose.chance(6)]
    for name in wanted:
        g.b.output(name, [None] * len(shapes[name]))
    for name, elem_type, rank in g.outside:
        g.b.output(name, [None] * rank, elem_type)
    model = g.b.model()
    if choose.chance(30):  # as exporters do
        model = onnx.shape_inference.infer_shapes(model)
    scope = choose.one_of(["", "", "", "", "if", "loop", "scan", "function"])
    batchnorms = g.batchnorms
    if scope:
        model = getattr(random_scopes, f"in_{scope}")(model)
        batchnorms *= 2 if scope == "if" else 1
    options = {
        "leftover": choose.one_of(["keep", "keep", "affine", "normalize"]),
        "merge_branches": choose.chance(30),
    }
    words = f"opset {opset}, {dtype}, {scope or 'main graph'}, {options}"
    return Case(model, batchnorms, options, words)


__all__ = ["Case", "rich_graph", "route_down", "route_up"]

"""Graphs of group normalization that are exact and are not offered, with the reason.

in+bn
    Reshape, InstanceNormalization, Reshape, and a BatchNormalization of mean 0, variance 1 and
    epsilon 0 for the affine: one pass instead of Mul and Add. Fast, but a BatchNormalization in a
    network that is to be free of them, which trains as one if the model is brought back to a
    framework.
ln broadcast
    One LayerNormalization over (N, G, C/G, spatial) with the affine broadcast from (G, C/G, 1):
    the fewest nodes and the smallest rounding; onnxruntime runs it element by element.
sums
    ReduceSumSquare for the variance, which onnxruntime does not vectorise.
uncentred
    E[x^2] - E[x]^2 from a dot product, and one multiply and add: fewer passes, and wrong where the
    mean is large.

Measured once and left out of the table: MeanVarianceNormalization (its epsilon is fixed, so it is
not exact), BatchNormalization in training mode over (1, N*G, L) (off by 3e2 where L is large and
the mean is 100), GlobalLpPool for sums of squares (500 times the time of a BatchNormalization),
com.microsoft.GroupNorm (no CPU kernel).
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import helper, numpy_helper


class _Graph:
    """A model in whose place of the BatchNormalization other nodes are put."""

    def __init__(self, model: onnx.ModelProto, groups: int) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        self.shape, self.groups = shape, groups
        self.per_group = shape[1] // groups
        self.size = math.prod(shape[1:]) // groups
        self.nodes: list[onnx.NodeProto] = []

    def const(self, value: object) -> str:
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = f"c{len(self.model.graph.initializer)}"
        self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def op(self, op: str, *inputs: str, **attrs: object) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attrs))
        return name

    def reshape(self, value: str, *sizes: int) -> str:
        return self.op("Reshape", value, self.const(np.array(sizes, np.int64)))

    def done(self) -> bytes:
        self.nodes[-1].output[0] = "y"
        graph = self.model.graph
        at = next(i for i, n in enumerate(graph.node) if n.op_type == "BatchNormalization")
        nodes = [*graph.node[:at], *self.nodes, *graph.node[at + 1 :]]
        del graph.node[:]
        graph.node.extend(nodes)
        return self.model.SerializeToString()


def in_bn(
    model: onnx.ModelProto, groups: int, scale: np.ndarray, bias: np.ndarray, epsilon: float
) -> bytes:
    g = _Graph(model, groups)
    ones, zeros = g.const(np.ones(groups)), g.const(np.zeros(groups))
    x = g.reshape("x", 0, groups, -1)
    x = g.op("InstanceNormalization", x, ones, zeros, epsilon=epsilon)
    zero, one = g.const(np.zeros(len(scale))), g.const(np.ones(len(scale)))
    affine = [g.const(scale), g.const(bias), zero, one]
    g.op("BatchNormalization", g.reshape(x, *g.shape), *affine, epsilon=0.0)
    return g.done()


def ln_broadcast(
    model: onnx.ModelProto, groups: int, scale: np.ndarray, bias: np.ndarray, epsilon: float
) -> bytes:
    g = _Graph(model, groups)
    affine = [g.const(v.reshape(1, groups, g.per_group, 1)) for v in (scale, bias)]
    x = g.reshape("x", 0, groups, g.per_group, -1)
    x = g.op("LayerNormalization", x, *affine, axis=2, epsilon=epsilon)
    g.reshape(x, *g.shape)
    return g.done()


def sums(
    model: onnx.ModelProto, groups: int, scale: np.ndarray, bias: np.ndarray, epsilon: float
) -> bytes:
    g = _Graph(model, groups)
    axis = g.const(np.array([2]))
    x = g.reshape("x", 0, groups, -1)
    d = g.op("Sub", x, g.op("ReduceMean", x, axis, keepdims=1))
    energy = g.op("ReduceSumSquare", d, axis, keepdims=1)
    deviation = g.op("Sqrt", g.op("Add", energy, g.const(epsilon * g.size)))
    numerator = g.const(scale.reshape(groups, -1) * g.size**0.5)
    factor = g.op("Div", numerator, deviation)
    along = [1] * (len(g.shape) - 2)
    factor = g.reshape(factor, -1, len(scale), *along)
    y = g.op("Mul", g.reshape(d, *g.shape), factor)
    g.op("Add", y, g.const(bias.reshape(-1, *along)))
    return g.done()


def uncentred(
    model: onnx.ModelProto, groups: int, scale: np.ndarray, bias: np.ndarray, epsilon: float
) -> bytes:
    g = _Graph(model, groups)
    x = g.reshape("x", 0, groups, -1)
    mean = g.op("ReduceMean", x, g.const(np.array([2])), keepdims=1)
    rows = g.reshape(x, 0, groups, 1, -1)
    energy = g.op("MatMul", rows, g.op("Transpose", rows, perm=[0, 1, 3, 2]))
    square = g.op("Div", g.reshape(energy, 0, groups, 1), g.const(float(g.size)))
    variance = g.op("Sub", square, g.op("Mul", mean, mean))
    deviation = g.op("Sqrt", g.op("Add", variance, g.const(epsilon)))
    factor = g.op("Div", g.const(scale.reshape(groups, -1)), deviation)
    shift = g.op("Sub", g.const(bias.reshape(groups, -1)), g.op("Mul", factor, mean))
    along = [1] * (len(g.shape) - 2)
    y = g.op("Mul", "x", g.reshape(factor, -1, len(scale), *along))
    g.op("Add", y, g.reshape(shift, -1, len(scale), *along))
    return g.done()


TRIED = {"in+bn": in_bn, "ln broadcast": ln_broadcast, "sums": sums, "uncentred": uncentred}

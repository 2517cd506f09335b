"""BNs that an exporter wrote as arithmetic: in every order and on either side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.suite.registry import DECOMPOSED, fold, keep, policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.suite.net import Net

ARITHMETIC = ("BatchNormalization", *DECOMPOSED)
SHAPES = ((1, 6, 1, 1), (6, 1, 1))
EPSILON = np.float32(1e-3)


def ints(net: Net, *values: int) -> str:
    return net.const(np.int64(values))


def parts(net: Net, shape: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Return scale, B, mean and var of six channels in `shape`."""
    return tuple(p.reshape(shape) for p in net.statistics(6))


@fold(
    "(y - mean) / sqrt(var + eps) * scale + B, the root computed at run time",
    residue=ARITHMETIC,
    vary={"shape": SHAPES},
)
def sub_div_mul_add(net: Net, shape: tuple[int, ...]) -> None:
    scale, B, mean, var = (net.const(p) for p in parts(net, shape))
    y = net.op("Sub", net.conv(net.input(), 4, 6), mean)
    y = net.op("Div", y, net.op("Sqrt", net.op("Add", var, net.const(EPSILON))))
    net.output(net.op("Relu", net.op("Add", net.op("Mul", y, scale), B)))


@fold("the root as a constant", residue=ARITHMETIC, vary={"shape": SHAPES})
def sub_div_constant(net: Net, shape: tuple[int, ...]) -> None:
    scale, B, mean, var = parts(net, shape)
    y = net.op("Sub", net.conv(net.input(), 4, 6), net.const(mean))
    y = net.op("Div", y, net.const(np.sqrt(var + EPSILON)))
    y = net.op("Add", net.op("Mul", y, net.const(scale)), net.const(B))
    net.output(net.op("Relu", y))


@fold(
    "scale / sqrt(var + eps) first, then times (y - mean): Caffe2 and old MXNet", residue=ARITHMETIC
)
def sub_mul_add(net: Net) -> None:
    scale, B, mean, var = parts(net, (1, 6, 1, 1))
    y = net.op("Sub", net.conv(net.input(), 4, 6), net.const(mean))
    y = net.op("Mul", net.const(scale / np.sqrt(var + EPSILON)), y)
    net.output(net.op("Relu", net.op("Add", y, net.const(B))))


@fold("tf2onnx: one Mul, one Add", residue=ARITHMETIC, vary={"side": ("left", "right")})
def mul_add(net: Net, side: str) -> None:
    scale, B, _, _ = (net.const(p) for p in parts(net, (1, 6, 1, 1)))
    y = net.conv(net.input(), 4, 6)
    y = net.op("Mul", *((scale, y) if side == "left" else (y, scale)))
    net.output(net.op("Relu", net.op("Add", *((B, y) if side == "left" else (y, B)))))


@fold("tf2onnx: Mul, Sub", residue=ARITHMETIC)
def mul_sub(net: Net) -> None:
    scale, B, _, _ = (net.const(p) for p in parts(net, (6, 1, 1)))
    net.output(net.op("Relu", net.op("Sub", net.op("Mul", net.conv(net.input(), 4, 6), scale), B)))


@fold(
    "Keras: with r = scale * rsqrt(var + eps), y * r + (B - mean * r), all at run time",
    residue=ARITHMETIC,
)
def keras(net: Net) -> None:
    scale, B, mean, var = (net.const(p) for p in parts(net, (1, 6, 1, 1)))
    rsqrt = net.op("Reciprocal", net.op("Sqrt", net.op("Add", var, net.const(EPSILON))))
    inv = net.op("Mul", rsqrt, scale)
    y = net.op("Mul", net.conv(net.input(), 4, 6), inv)
    y = net.op("Add", y, net.op("Sub", B, net.op("Mul", mean, inv)))
    net.output(net.op("Relu", y))


@fold(
    "Keras, channels last between two Transposes: (C) on the last axis is the channel",
    residue=ARITHMETIC,
)
def keras_channels_last(net: Net) -> None:
    scale, B, mean, var = (net.const(p) for p in parts(net, (6,)))
    rsqrt = net.op("Pow", net.op("Add", var, net.const(EPSILON)), net.const(np.float32(-0.5)))
    inv = net.op("Mul", rsqrt, scale)
    y = net.op("Transpose", net.input("x", (2, 6, 6, 4)), perm=[0, 3, 1, 2])
    y = net.op("Transpose", net.conv(y, 4, 6), perm=[0, 2, 3, 1])
    y = net.op("Add", net.op("Mul", y, inv), net.op("Sub", B, net.op("Mul", mean, inv)))
    net.output(net.op("Relu", y))


@fold("Paddle: statistics through Reshape, Unsqueeze and Cast at run time", residue=ARITHMETIC)
def paddle(net: Net) -> None:
    scale, B, mean, var = net.statistics(6)
    shape = ints(net, 1, 6, 1, 1)
    y = net.op("Sub", net.conv(net.input(), 4, 6), net.op("Reshape", net.const(mean), shape))
    var_eps = net.op(
        "Add", net.op("Cast", net.const(var.astype(np.float64)), to=1), net.const(EPSILON)
    )
    y = net.op("Div", y, net.op("Reshape", net.op("Sqrt", var_eps), shape))
    y = net.op("Mul", y, net.op("Unsqueeze", net.const(scale), ints(net, 0, 2, 3)))
    net.output(net.op("Relu", net.op("Add", y, net.op("Unsqueeze", net.const(B), ints(net, 1, 2)))))


@fold("PyTorch's decomposition: unsqueezed twice, rsqrt, Mul, Mul, Add", residue=ARITHMETIC)
def pytorch(net: Net) -> None:
    scale, B, mean, var = (net.const(p) for p in net.statistics(6))

    def spread(name: str) -> str:
        return net.op("Unsqueeze", net.op("Unsqueeze", name, ints(net, -1)), ints(net, -1))

    root = net.op("Sqrt", net.op("Add", var, net.const(EPSILON)))
    y = net.op("Sub", net.conv(net.input(), 4, 6), spread(mean))
    y = net.op("Mul", y, spread(net.op("Reciprocal", root)))
    net.output(net.op("Relu", net.op("Add", net.op("Mul", y, spread(scale)), spread(B))))


@fold("scalars: one statistic for all channels", residue=ARITHMETIC)
def scalars(net: Net) -> None:
    y = net.op("Sub", net.conv(net.input(), 4, 6), net.const(np.float32(0.3)))
    y = net.op("Div", y, net.const(np.float32([1.7])))
    y = net.op("Mul", net.const(np.float32(-2)), y)
    net.output(net.op("Relu", net.op("Add", y, net.const(np.float32([[[[0.1]]]])))))


@fold("c - y", residue=ARITHMETIC)
def reversed_sub(net: Net) -> None:
    y = net.op("Sub", net.weight(6, 1, 1), net.conv(net.input(), 4, 6))
    net.output(net.op("Relu", net.op("Mul", y, net.weight(6, 1, 1))))


@policy("-y is a scale of -1", residue=ARITHMETIC)
def negated(net: Net) -> None:
    y = net.op("Neg", net.conv(net.input(), 4, 6))
    net.output(net.op("Relu", net.op("Mul", y, net.weight(6, 1, 1))))


@fold(
    "behind a Gemm the channel is the last axis: (N), (1, N), scalars",
    residue=ARITHMETIC,
    vary={"shape": ((6,), (1, 6))},
)
def gemm(net: Net, shape: tuple[int, ...]) -> None:
    scale, B, mean, var = (net.const(p) for p in parts(net, shape))
    y = net.op("Gemm", net.input("x", (3, 5)), net.weight(5, 6), net.weight(6))
    y = net.op("Div", net.op("Sub", y, mean), net.op("Sqrt", var))
    net.output(net.op("Relu", net.op("Add", net.op("Mul", y, scale), B)))


@fold(
    "behind a MatMul, over a sequence: the shift needs one Add",
    residue=("Sub", "Div", "Mul", "Sqrt"),
)
def matmul(net: Net) -> None:
    scale, B, mean, var = (net.const(p) for p in parts(net, (6,)))
    y = net.op("MatMul", net.input("x", (2, 7, 5)), net.weight(5, 6))
    y = net.op("Div", net.op("Sub", y, mean), net.op("Sqrt", var))
    net.output(net.op("Relu", net.op("Add", net.op("Mul", y, scale), B)))


@fold("behind a ConvTranspose, grouped", residue=ARITHMETIC)
def conv_transpose(net: Net) -> None:
    scale, B, mean, _ = (net.const(p) for p in parts(net, (6, 1, 1)))
    y = net.op("ConvTranspose", net.input(), net.weight(4, 3, 3, 3), group=2)
    y = net.op("Mul", net.op("Sub", y, mean), scale)
    net.output(net.op("Relu", net.op("Add", y, B)))


@fold("1-D: (C, 1)", residue=ARITHMETIC)
def conv_1d(net: Net) -> None:
    y = net.op("Conv", net.input("x", (2, 4, 8)), net.weight(6, 4, 3))
    y = net.op("Add", net.op("Mul", y, net.weight(6, 1)), net.weight(1, 6, 1))
    net.output(net.op("Relu", y))


@fold("image normalization in front of an unpadded Conv", residue=ARITHMETIC)
def image_normalization(net: Net) -> None:
    x = net.op("Mul", net.input("x", (2, 3, 6, 6)), net.const(np.float32(1 / 255)))
    x = net.op("Div", net.op("Sub", x, net.weight(1, 3, 1, 1)), net.weight(1, 3, 1, 1))
    net.output(net.conv(x, 3, 6))


@policy("a scale alone, half a BN, in front of a padded Conv: zero stays zero", residue=ARITHMETIC)
def image_scale_padded(net: Net) -> None:
    x = net.op("Div", net.input("x", (2, 3, 6, 6)), net.const(np.float32(255)))
    net.output(net.conv(x, 3, 6, pads=[1] * 4))


@fold("a decomposed BN and a true one in a row", residue=ARITHMETIC)
def decomposed_and_bn(net: Net) -> None:
    y = net.op("Mul", net.conv(net.input(), 4, 6), net.weight(6, 1, 1))
    net.output(net.op("Relu", net.bn(net.op("Add", y, net.weight(6, 1, 1)), 6)))


@policy(
    "layer scale: gamma * Conv(x), added to x: gamma alone is half a BN; it can go into the Conv",
    residue=ARITHMETIC,
)
def layer_scale(net: Net) -> None:
    x = net.input()
    y = net.op("Mul", net.weight(4, 1, 1), net.conv(x, 4, 4, pads=[1] * 4))
    net.output(net.op("Relu", net.op("Add", x, y)))


@fold(
    "float16 with statistics cast from float32 at run time",
    residue=ARITHMETIC,
    dtype=np.float16,
    tolerance=2e-2,
)
def half_precision(net: Net) -> None:
    scale, B, mean, var = (net.const(p.astype(np.float32)) for p in parts(net, (1, 6, 1, 1)))
    inv = net.op("Div", scale, net.op("Sqrt", net.op("Add", var, net.const(EPSILON))))
    shift = net.op("Sub", B, net.op("Mul", mean, inv))
    y = net.op("Mul", net.conv(net.input(), 4, 6), net.op("Cast", inv, to=10))
    net.output(net.op("Relu", net.op("Add", y, net.op("Cast", shift, to=10))))


@policy(
    "(W) with W = C: both vary over the columns; the Add's part may go into a spatial constant",
    residue=ARITHMETIC,
)
def width_lookalike(net: Net) -> None:
    y = net.conv(net.input("x", (2, 4, 6, 6)), 4, 4)
    y = net.op("Add", net.op("Mul", y, net.weight(4)), net.weight(4))
    net.output(net.op("Relu", y))


@keep("(H, 1) with H = C", left=2, residue=ARITHMETIC)
def height_lookalike(net: Net) -> None:
    y = net.conv(net.input("x", (2, 4, 6, 6)), 4, 4)
    y = net.op("Add", net.op("Mul", y, net.weight(4, 1)), net.weight(4, 1))
    net.output(net.op("Relu", y))


@keep("(N, 1, 1, 1) with N = C: per sample", left=2, residue=ARITHMETIC)
def batch_lookalike(net: Net) -> None:
    y = net.conv(net.input("x", (4, 4, 6, 6)), 4, 4)
    y = net.op("Add", net.op("Mul", y, net.weight(4, 1, 1, 1)), net.weight(4, 1, 1, 1))
    net.output(net.op("Relu", y))


@keep("(T, 1) over a sequence as long as the Linear is wide", left=2, residue=ARITHMETIC)
def sequence_lookalike(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (2, 4, 5)), net.weight(5, 4))
    y = net.op("Add", net.op("Mul", y, net.weight(4, 1)), net.weight(4, 1))
    net.output(net.op("Relu", y))


@keep(
    "batch statistics of the input itself: training", left=4, residue=("Sub", "Div", "Mul", "Add")
)
def batch_statistics(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    centred = net.op("Sub", y, net.op("ReduceMean", y, axes=[0, 2, 3]))
    var = net.op("ReduceMean", net.op("Mul", centred, centred), axes=[0, 2, 3])
    root = net.op("Sqrt", net.op("Add", var, net.const(EPSILON)))
    net.output(net.op("Relu", net.op("Div", centred, root)))


@keep("c / y", residue=("Div",))
def reciprocal(net: Net) -> None:
    y = net.op("Exp", net.conv(net.input(), 4, 6))
    net.output(net.op("Tanh", net.op("Div", net.weight(6, 1, 1), y)))


@keep("the factor is an input of the model", residue=("Mul",))
def factor_is_input(net: Net) -> None:
    y = net.op("Mul", net.conv(net.input(), 4, 6), net.input("k", (6, 1, 1)))
    net.output(net.op("Relu", net.op("Add", y, net.weight(6, 1, 1))))


@keep("y * sigmoid(y)", residue=("Mul",))
def swish(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    net.output(net.op("Mul", y, net.op("Sigmoid", y)))


@keep(
    "image normalization in front of a padded Conv: the mean meets the zeros",
    residue=("Sub", "Add"),
)
def image_normalization_padded(net: Net) -> None:
    x = net.op("Sub", net.input("x", (2, 3, 6, 6)), net.weight(1, 3, 1, 1))
    net.output(net.conv(net.op("Div", x, net.weight(1, 3, 1, 1)), 3, 6, pads=[1] * 4))


@keep(
    "integer arithmetic isn't affine: the division truncates", residue=("Div", "Mul", "Add"), left=2
)
def integers(net: Net) -> None:
    x = net.input("x", (2, 4), np.int64, feed=np.arange(8).reshape(2, 4))
    y = net.op("Div", net.op("Add", x, ints(net, 1, 2, 3, 4)), ints(net, 3, 2, 2, 3))
    net.output(y, np.int64)


@policy(
    "1-D: (C, 1, 1) has one axis too many, so that it is (N, 1, 1), per sample", residue=ARITHMETIC
)
def batch_lookalike_1d(net: Net) -> None:
    y = net.op("Conv", net.input("x", (4, 3, 6)), net.weight(4, 3, 3))
    y = net.op("Add", net.op("Mul", y, net.weight(4, 1, 1)), net.weight(4, 1, 1))
    net.output(net.op("Relu", y))


@keep("(M, 1) behind a Gemm scales rows, square", left=1, residue=("Mul",))
def row_lookalike(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (4, 5)), net.weight(5, 4), net.weight(4))
    y = net.op("Add", net.op("Mul", y, net.weight(4, 1)), net.weight(4, 1))
    net.output(net.op("Relu", y))

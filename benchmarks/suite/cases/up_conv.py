"""BN behind Conv and ConvTranspose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from benchmarks.suite.registry import fold, keep, policy

if TYPE_CHECKING:
    from benchmarks.suite.net import Net

CONV = "W[m] *= s[m], b' = s*b + t"
TRANSPOSED = "column m of W, and only in its group, times s[m]"


@fold(CONV, vary={"bias": (False, True)})
def conv(net: Net, bias: bool) -> None:
    x = net.input()
    net.output(net.bn(net.conv(x, 4, 6, bias=bias, pads=[1, 1, 1, 1]), 6))


@fold("an empty name is no bias: b' = t")
def conv_empty_bias(net: Net) -> None:
    y = net.op("Conv", net.input(), net.weight(6, 4, 3, 3), "")
    net.output(net.bn(y, 6))


@fold(CONV, vary={"rank": (1, 3)})
def conv_rank(net: Net, rank: int) -> None:
    x = net.input("x", (2, 3, *[7] * rank))
    y = net.op("Conv", x, net.weight(5, 3, *[3] * rank), net.weight(5), strides=[2] * rank)
    net.output(net.bn(y, 5))


@fold("W (M, C/g, *k): the output channel is the first axis in any group", vary={"group": (2, 4)})
def conv_group(net: Net, group: int) -> None:
    net.output(net.bn(net.conv(net.input(), 4, 8, group=group), 8))


@fold("depthwise with two outputs a channel: the first axis still")
def conv_depthwise_multiplier(net: Net) -> None:
    net.output(net.bn(net.conv(net.input(), 4, 8, group=4, bias=False), 8))


@fold(
    "zero padding is in front of the Conv", vary={"auto_pad": ("SAME_UPPER", "SAME_LOWER", "VALID")}
)
def conv_auto_pad(net: Net, auto_pad: str) -> None:
    net.output(net.bn(net.conv(net.input(), 4, 6, auto_pad=auto_pad, strides=[2, 2]), 6))


@fold("pads, strides and dilations don't touch the output channels")
def conv_geometry(net: Net) -> None:
    y = net.conv(net.input(), 4, 6, pads=[0, 1, 2, 3], dilations=[1, 2], strides=[2, 1])
    net.output(net.bn(y, 6))


@fold("symbolic batch and space say nothing about channels")
def conv_dynamic(net: Net) -> None:
    x = net.input("x", ("N", 4, "H", "W"), sizes=(2, 4, 6, 5))
    net.output(net.bn(net.conv(x, 4, 6), 6), shape=("N", 6, None, None))


@fold("the weight alone tells the rank: the shape of x comes at run time")
def conv_unknown_shape(net: Net) -> None:
    x = net.op("Reshape", net.input(), net.input("shape", ("R",), np.int64, feed=(2, 4, 6, 6)))
    net.output(net.bn(net.conv(x, 4, 6), 6), shape=(None,) * 4)


@fold("one channel out: every affine is per channel")
def conv_one_channel(net: Net) -> None:
    net.output(net.bn(net.conv(net.input(), 4, 1), 1))


@fold("value_info of the tensor between goes with it; that of others stays")
def conv_value_info(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    z = net.bn(y, 6)
    net.value_info += [helper.make_tensor_value_info(n, 1, (2, 6, 4, 4)) for n in (y, z)]
    net.output(net.op("Relu", z))


@fold(
    "s is scale/sqrt(var + epsilon) with the epsilon that stands there",
    vary={"epsilon": (0.0, 1e-12, 0.25)},
)
def conv_epsilon(net: Net, epsilon: float) -> None:
    net.output(net.bn(net.conv(net.input(), 4, 6), 6, epsilon=epsilon))


@fold("epsilon 0 with a variance far below the default epsilon")
def conv_epsilon_zero_small_variance(net: Net) -> None:
    scale, B, mean, var = net.statistics(6)
    net.output(
        net.bn(net.conv(net.input(), 4, 6), 6, parameters=(scale, B, mean, var * 1e-6), epsilon=0.0)
    )


@fold("a variance of zero is rescued by epsilon")
def conv_zero_variance(net: Net) -> None:
    scale, B, mean, var = net.statistics(6)
    var[1] = 0
    net.output(net.bn(net.conv(net.input(), 4, 6), 6, parameters=(scale, B, mean, var)))


@fold("momentum is for training")
def conv_momentum(net: Net) -> None:
    net.output(net.bn(net.conv(net.input(), 4, 6), 6, momentum=0.5))


@fold("s = 0 everywhere: W' = 0, b' = B")
def conv_all_scales_zero(net: Net) -> None:
    scale, B, mean, var = net.statistics(6)
    net.output(net.bn(net.conv(net.input(), 4, 6), 6, parameters=(scale * 0, B, mean, var)))


@fold("the mean's product with s is taken in double: it cancels against the bias")
def conv_large_mean(net: Net) -> None:
    scale, B, mean, var = net.statistics(6)
    mean += np.float32(1e4)
    y = net.op("Conv", net.input(), net.weight(6, 4, 3, 3), net.const(mean + net.random(6)))
    net.output(net.bn(y, 6, parameters=(scale, B, mean, var)))


@fold("scales over many orders of magnitude")
def conv_wide_scales(net: Net) -> None:
    scale, B, mean, var = net.statistics(6)
    scale *= np.float32([1e-6, 1e6, 1, 1e-3, 1e3, 1])
    net.output(net.bn(net.conv(net.input(), 4, 6), 6, parameters=(scale, B, mean, var)))


@fold("two affines in a row are one", vary={"count": (2, 4)})
def conv_bn_chain(net: Net, count: int) -> None:
    y = net.conv(net.input(), 4, 6)
    for _ in range(count):
        y = net.bn(y, 6)
    net.output(y)


@fold("Identity is nothing")
def conv_identity(net: Net) -> None:
    y = net.op("Identity", net.op("Identity", net.conv(net.input(), 4, 6)))
    net.output(net.bn(y, 6))


@fold("Dropout does nothing in inference", vary={"opset": (7, 10, 13)})
def conv_dropout(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    ratio = {"ratio": 0.3} if net.opset < 12 else {}
    inputs = [y] if net.opset < 12 else [y, net.const(np.float32(0.3))]
    net.output(net.bn(net.op("Dropout", *inputs, **ratio), 6))


@fold("Dropout with training_mode given as false")
def conv_dropout_training_false(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    y = net.op("Dropout", y, net.const(np.float32(0.3)), net.const(np.bool_(0)))
    net.output(net.bn(y, 6))


@fold("residual network: every BN has its own Conv", left=0)
def residual_block(net: Net) -> None:
    x = net.input()
    y = net.op("Relu", net.bn(net.conv(x, 4, 4, pads=[1] * 4, bias=False), 4))
    y = net.bn(net.conv(y, 4, 4, pads=[1] * 4, bias=False), 4)
    shortcut = net.bn(net.conv(x, 4, 4, 1, bias=False), 4)
    net.output(net.op("Relu", net.op("Add", y, shortcut)))


@fold("Conv, BN, an activation and a residual Add, a hundred times over")
def deep_chain(net: Net) -> None:
    y = net.input()
    for _ in range(100):
        weight = net.const(net.random(4, 4, 1, 1) * np.float32(0.5))
        y = net.op("Add", y, net.op("Tanh", net.bn(net.op("Conv", y, weight), 4)))
    net.output(y)


@fold(TRANSPOSED, vary={"bias": (False, True), "group": (1, 2)})
def conv_transpose(net: Net, bias: bool, group: int) -> None:
    inputs = [net.input(), net.weight(4, 6 // group, 3, 3)] + [net.weight(6)] * bias
    y = net.op("ConvTranspose", *inputs, group=group, strides=[2, 2], pads=[1, 1, 1, 1])
    net.output(net.bn(y, 6))


@fold("depthwise: one column a group")
def conv_transpose_depthwise(net: Net) -> None:
    y = net.op("ConvTranspose", net.input(), net.weight(4, 1, 3, 3), net.weight(4), group=4)
    net.output(net.bn(y, 4))


@fold("square W: its axes must not be mistaken for each other", vary={"group": (1, 2)})
def conv_transpose_square(net: Net, group: int) -> None:
    y = net.op("ConvTranspose", net.input(), net.weight(4, 4 // group, 2, 2), group=group)
    net.output(net.bn(y, 4))


@fold(TRANSPOSED, vary={"rank": (1, 3)})
def conv_transpose_rank(net: Net, rank: int) -> None:
    x = net.input("x", (2, 3, *[4] * rank))
    y = net.op("ConvTranspose", x, net.weight(3, 5, *[3] * rank), net.weight(5))
    net.output(net.bn(y, 5))


@fold("where no tap reaches, the output is the bias, and b' is right there too")
def conv_transpose_output_padding(net: Net) -> None:
    y = net.op(
        "ConvTranspose", net.input(), net.weight(4, 6, 2, 2), net.weight(6),
        strides=[3, 3], output_padding=[2, 1],
    )  # fmt: skip
    net.output(net.bn(y, 6))


@fold("without a bias those positions are zero, and b' = t is what BN made of them")
def conv_transpose_holes(net: Net) -> None:
    y = net.op("ConvTranspose", net.input(), net.weight(4, 6, 1, 1), strides=[2, 2])
    net.output(net.bn(y, 6))


@fold("output_shape and auto_pad only crop")
def conv_transpose_output_shape(net: Net) -> None:
    y = net.op(
        "ConvTranspose", net.input(), net.weight(4, 6, 3, 3),
        strides=[2, 2], output_shape=[12, 12], auto_pad="SAME_UPPER",
    )  # fmt: skip
    net.output(net.bn(y, 6))


@fold("an empty name is no bias")
def conv_transpose_empty_bias(net: Net) -> None:
    y = net.op("ConvTranspose", net.input(), net.weight(4, 6, 3, 3), "", group=1)
    net.output(net.bn(y, 6))


@fold("a U: every Conv and ConvTranspose has its BN, the skip is behind it")
def little_unet(net: Net) -> None:
    x = net.op("Relu", net.bn(net.conv(net.input(), 4, 4, pads=[1] * 4), 4))
    y = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    y = net.op("Relu", net.bn(net.conv(y, 4, 8, pads=[1] * 4), 8))
    y = net.op("ConvTranspose", y, net.weight(8, 4, 2, 2), strides=[2, 2])
    y = net.op("Concat", x, net.op("Relu", net.bn(y, 4)), axis=1)
    net.output(net.bn(net.conv(y, 8, 2, 1), 2))


@keep("the Conv's output is an output of the model")
def conv_output_is_graph_output(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    net.output(y)
    net.output(net.op("Relu", net.bn(y, 6)))


@keep("another node reads the Conv")
def conv_has_another_reader(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    net.output(net.op("Add", net.op("Relu", net.bn(y, 6)), net.op("Sigmoid", y)))


@keep("the weight is an input of the model", vary={"op": ("Conv", "ConvTranspose")})
def weight_is_input(net: Net, op: str) -> None:
    x = net.input()
    y = net.op(op, x, net.input("w", (4, 4, 3, 3)))
    net.output(net.bn(y, 4))


@keep("the bias is an input of the model: s*b can't be made beforehand")
def bias_is_input(net: Net) -> None:
    y = net.op("Conv", net.input(), net.weight(6, 4, 3, 3), net.input("b", (6,)))
    net.output(net.op("Relu", net.bn(y, 6)))


@keep("the statistics are inputs of the model", vary={"index": (0, 1, 2, 3)})
def statistic_is_input(net: Net, index: int) -> None:
    y = net.conv(net.input(), 4, 6)
    parameters = list(net.statistics(6))
    parameters[index] = net.input("p", (6,), feed=parameters[index])
    net.output(net.bn(y, 6, parameters=parameters))


@keep(
    "a nonlinearity between, negative scales", vary={"op": ("Relu", "Sigmoid", "HardSwish", "Elu")}
)
def nonlinearity_between(net: Net, op: str) -> None:
    net.output(net.op("Tanh", net.bn(net.op(op, net.conv(net.input(), 4, 6)), 6)))


@keep("a custom operator may be called Conv: this one ends with a Relu")
def conv_of_another_domain(net: Net) -> None:
    f = net.function("Conv", ["X", "W"])
    f.returns(f.op("Relu", f.op("Conv", "X", "W")))
    y = net.op("Conv", net.input(), net.weight(6, 4, 3, 3), domain="local")
    net.output(net.op("Tanh", net.bn(y, 6)))


@keep("a custom operator called BatchNormalization is none", left=0)
def batch_norm_of_another_domain(net: Net) -> None:
    f = net.function("BatchNormalization", ["X", "scale", "B", "mean", "var"])
    y = f.op("Mul", f.op("Sigmoid", "X"), f.op("ReduceSum", "var", keepdims=0))
    f.returns(y)
    parameters = [net.const(p) for p in net.statistics(6)]
    y = net.conv(net.input(), 4, 6)
    net.output(net.op("BatchNormalization", y, *parameters, domain="local"))


@fold("the opset import says 'ai.onnx', another name of the default domain")
def default_domain_by_its_name(net: Net) -> None:
    net.opsets = {"ai.onnx": net.opset}
    net.output(net.bn(net.conv(net.input(), 4, 6), 6))


@policy("Shape reads the Conv too, but no value of it")
def shape_reads_the_conv(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    z = net.bn(y, 6)
    net.output(net.op("Expand", net.op("Relu", z), net.op("Shape", y)))


@fold("kernel_shape and group written out, as exporters do; all attributes stay")
def conv_attributes_written_out(net: Net) -> None:
    y = net.conv(
        net.input(), 4, 6, kernel_shape=[3, 3], group=1, strides=[1, 1], dilations=[1, 1],
        pads=[1, 1, 1, 1], auto_pad="NOTSET",
    )  # fmt: skip
    net.output(net.bn(y, 6))


@fold("a thousand Convs and BNs in a row: time must not grow with the square", tolerance=1e-3)
def very_deep_chain(net: Net) -> None:
    y = net.input("x", (1, 2, 2, 2))
    for i in range(1000):
        matrix = np.linalg.qr(net.rng.normal(size=(2, 2)))[0].astype(np.float32)
        y = net.op("Conv", y, net.const(matrix[:, :, None, None]), name=f"conv_{i}")
        y = net.bn(y, 2, parameters=np.float32([[1, -1], [0.1, 0], [0, 0.1], [1, 1]]))
    net.output(y)


@fold("a Concat of three hundred Convs")
def very_wide_concat(net: Net) -> None:
    x = net.input("x", (1, 2, 3, 3))
    parts = [net.conv(x, 2, 1 + i % 2, 1) for i in range(300)]
    net.output(net.op("Relu", net.bn(net.op("Concat", *parts, axis=1), 450)))

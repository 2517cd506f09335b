"""The scale goes one way and the shift another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.suite.registry import BATCH_NORM, fold, keep

if TYPE_CHECKING:
    from benchmarks.suite.net import Net

UP_DOWN = "s >= 0 up through the Relu, t down through the Add into the next operator's bias"


def relu_bn(net: Net, y: str, channels: int = 4, **options: Any) -> str:
    options.setdefault("sign", "nonnegative")
    return net.bn(net.op("Relu", y), channels, **options)


@fold(UP_DOWN)
def residual_into_conv(net: Net) -> None:
    x = net.input()
    y = net.op("Add", relu_bn(net, net.conv(x, 4, 4, pads=[1] * 4)), x)
    net.output(net.conv(y, 4, 6, 1))


@fold("the same, the Add's operands swapped, no bias to begin with")
def residual_into_conv_swapped(net: Net) -> None:
    x = net.input()
    y = net.op("Add", x, relu_bn(net, net.conv(x, 4, 4, pads=[1] * 4, bias=False)))
    net.output(net.conv(y, 4, 6, 1, bias=False))


@fold("x - BN(...): the shift changes its sign on the way")
def residual_sub(net: Net) -> None:
    x = net.input()
    y = net.op("Sub", x, relu_bn(net, net.conv(x, 4, 4, pads=[1] * 4)))
    net.output(net.conv(y, 4, 6, 1))


@fold("t into both Convs that read the sum")
def residual_two_readers(net: Net) -> None:
    x = net.input()
    y = net.op("Add", relu_bn(net, net.conv(x, 4, 4, pads=[1] * 4)), x)
    net.output(net.conv(y, 4, 6, 1))
    net.output(net.conv(y, 4, 2, 3))


@fold("down through Add, mean and Flatten into the classifier")
def residual_into_classifier(net: Net) -> None:
    x = net.input()
    y = net.op("Add", relu_bn(net, net.conv(x, 4, 4, pads=[1] * 4)), x)
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    net.output(net.op("Gemm", y, net.weight(4, 3), net.weight(3)))


@fold("t into a constant that's added anyway")
def residual_into_constant(net: Net) -> None:
    x = net.input()
    y = net.op("Add", relu_bn(net, net.conv(x, 4, 4, pads=[1] * 4)), x)
    net.output(net.op("Sigmoid", net.op("Add", y, net.weight(4, 1, 1))))


@fold("t into a constant that varies over space")
def relu_bn_add_spatial(net: Net) -> None:
    y = net.op("Add", relu_bn(net, net.conv(net.input(), 4, 4)), net.weight(4, 4, 4))
    net.output(net.op("Sigmoid", y))


@fold("two residuals deep before somebody takes the shift")
def residual_twice(net: Net) -> None:
    x, z = net.input(), net.input("z")
    y = net.op("Add", relu_bn(net, net.conv(x, 4, 4, pads=[1] * 4)), x)
    net.output(net.conv(net.op("Add", z, y), 4, 6, 1))


@fold("up through MaxPool and Relu, down through Add")
def pool_between(net: Net) -> None:
    x, z = net.input(), net.input("z", (2, 4, 3, 3))
    y = net.op(
        "MaxPool",
        net.op("Relu", net.conv(x, 4, 4, pads=[1] * 4)),
        kernel_shape=[2, 2],
        strides=[2, 2],
    )
    y = net.op("Add", net.bn(y, 4, sign="nonnegative"), z)
    net.output(net.conv(y, 4, 6, 1))


@fold("the same with Linear operators")
def residual_linear(net: Net) -> None:
    x = net.input("x", (3, 5))
    y = net.op("Gemm", x, net.weight(5, 5), net.weight(5))
    y = net.op("Add", relu_bn(net, y, 5), x)
    net.output(net.op("Add", net.op("MatMul", y, net.weight(5, 6)), net.weight(6)))


@fold("both branches have Relu and BN: two scales up, two shifts down")
def residual_both_branches(net: Net) -> None:
    x = net.input()
    y = net.op("Add", relu_bn(net, net.conv(x, 4, 4)), relu_bn(net, net.conv(x, 4, 4)))
    net.output(net.conv(y, 4, 6, 1))


@fold("ConvMixer's depthwise half: DW, Relu, BN, + x, PW; its other half keeps its BN", left=1)
def convmixer_block(net: Net) -> None:
    x = net.op("Relu", net.input())
    y = net.op("Add", relu_bn(net, net.conv(x, 4, 4, 5, group=4, pads=[2] * 4)), x)
    y = relu_bn(net, net.conv(y, 4, 4, 1))
    z = net.op("Relu", net.conv(y, 4, 4, 5, group=4, pads=[2] * 4))
    net.output(net.op("Add", z, y))


@fold("ConvMixer's end: Relu, BN, mean, Flatten, Gemm; any sign")
def convmixer_end(net: Net) -> None:
    y = relu_bn(net, net.conv(net.input(), 4, 4, 1), sign="mixed")
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    net.output(net.op("Gemm", y, net.weight(4, 3), net.weight(3)))


@fold("Conv, Relu, BN, Conv without padding: down in one piece, any sign")
def conv_relu_bn_conv(net: Net) -> None:
    y = relu_bn(net, net.conv(net.input(), 4, 4), sign="mixed")
    net.output(net.conv(y, 4, 6, 3))


@fold("Conv, Relu, BN, padded Conv: t = 0, so the scale goes either way")
def conv_relu_bn_padded_conv_without_shift(net: Net) -> None:
    y = relu_bn(net, net.conv(net.input(), 4, 4), shift=False, sign="mixed")
    net.output(net.conv(y, 4, 6, 3, pads=[1] * 4))


@fold("LeakyRelu and PRelu are as good as Relu", vary={"op": ("LeakyRelu", "PRelu")})
def residual_homogeneous(net: Net, op: str) -> None:
    x = net.input()
    y = net.op(
        op, net.conv(x, 4, 4, pads=[1] * 4), *([net.weight(4, 1, 1)] if op == "PRelu" else [])
    )
    y = net.op("Add", net.bn(y, 4, sign="nonnegative"), x)
    net.output(net.conv(y, 4, 6, 1))


@fold("scale down, shift up? No: up absorbs both, whatever is below", residue=BATCH_NORM)
def conv_bn_padded_conv(net: Net) -> None:
    y = net.bn(net.conv(net.input(), 4, 4), 4)
    net.output(net.conv(y, 4, 6, 3, pads=[1] * 4))


@keep("the shift would meet the padding (the other half of ConvMixer)")
def relu_bn_padded_conv(net: Net) -> None:
    y = relu_bn(net, net.conv(net.input(), 4, 4))
    net.output(net.conv(y, 4, 6, 3, pads=[1] * 4))


@keep("one negative scale holds it")
def residual_one_negative(net: Net) -> None:
    x = net.input()
    scale, B, mean, var = net.statistics(4, sign="nonnegative")
    scale[1] = np.float32(-0.01)
    y = relu_bn(net, net.conv(x, 4, 4, pads=[1] * 4), parameters=(scale, B, mean, var))
    net.output(net.conv(net.op("Add", y, x), 4, 6, 1))


@keep("nobody below takes the shift")
def residual_into_relu(net: Net) -> None:
    x = net.input()
    y = net.op("Add", relu_bn(net, net.conv(x, 4, 4, pads=[1] * 4)), x)
    net.output(net.op("Sigmoid", y))


@keep("the sum is an output of the model")
def residual_is_output(net: Net) -> None:
    x = net.input()
    y = net.op("Add", relu_bn(net, net.conv(x, 4, 4, pads=[1] * 4)), x)
    net.output(y)
    net.output(net.conv(y, 4, 6, 1))


@keep("one of the sum's readers is padded")
def residual_one_reader_padded(net: Net) -> None:
    x = net.input()
    y = net.op("Add", relu_bn(net, net.conv(x, 4, 4, pads=[1] * 4)), x)
    net.output(net.conv(y, 4, 6, 1))
    net.output(net.conv(y, 4, 6, 3, pads=[1] * 4))


@keep("the Relu is read by another node: its scale can't change")
def relu_has_another_reader(net: Net) -> None:
    x = net.input()
    y = net.op("Relu", net.conv(x, 4, 4, pads=[1] * 4))
    z = net.op("Add", net.bn(y, 4, sign="nonnegative"), y)
    net.output(net.conv(z, 4, 6, 1))


@keep("the BN itself is read by the Add and by a Sigmoid")
def bn_has_two_readers(net: Net) -> None:
    x = net.input()
    y = relu_bn(net, net.conv(x, 4, 4, pads=[1] * 4))
    net.output(net.conv(net.op("Add", y, x), 4, 6, 1))
    net.output(net.op("Sigmoid", y))

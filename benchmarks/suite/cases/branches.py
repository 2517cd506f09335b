"""BNs on parallel branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.suite.registry import fold, keep, policy

if TYPE_CHECKING:
    from benchmarks.suite.net import Net

DIAGONAL = "a BN of the same input is a diagonal at the Conv's centre tap"


def image(net: Net, channels: int = 4) -> str:
    """Return an input that can't absorb anything."""
    return net.op("Relu", net.input("x", (2, channels, 6, 6)))


def conv_bn(net: Net, x: str, kernel: int, group: int = 1, stride: int = 1) -> str:
    y = net.conv(
        x, 4, 4, kernel, bias=False, group=group, pads=[kernel // 2] * 4, strides=[stride] * 2
    )
    return net.bn(y, 4)


@fold(DIAGONAL)
def repvgg(net: Net) -> None:
    x = image(net)
    y = net.op("Add", conv_bn(net, x, 3), conv_bn(net, x, 1))
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))


@fold("the same with the identity branch first, and Sum", vary={"how": ("first", "sum")})
def repvgg_order(net: Net, how: str) -> None:
    x = image(net)
    branches = net.bn(x, 4), conv_bn(net, x, 3), conv_bn(net, x, 1)
    if how == "sum":
        y = net.op("Sum", *branches)
    else:
        y = net.op("Add", net.op("Add", branches[0], branches[1]), branches[2])
    net.output(net.op("Relu", y))


@fold("stride 2 has no identity branch: two Convs with their BNs")
def repvgg_stride(net: Net) -> None:
    x = image(net)
    y = net.op("Add", conv_bn(net, x, 3, stride=2), conv_bn(net, x, 1, stride=2))
    net.output(net.op("Relu", y))


@fold("grouped: the diagonal within each group", vary={"group": (2, 4)})
def repvgg_group(net: Net, group: int) -> None:
    x = image(net)
    y = net.op("Add", conv_bn(net, x, 3, group), conv_bn(net, x, 1, group))
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))


@fold("two RepVGG blocks in a row: the input of the second is a Relu")
def repvgg_twice(net: Net) -> None:
    x = image(net)
    for _ in range(2):
        y = net.op("Add", conv_bn(net, x, 3), conv_bn(net, x, 1))
        x = net.op("Relu", net.op("Add", y, net.bn(x, 4)))
    net.output(x)


@fold("MobileOne: four 3x3 branches, a 1x1, an identity, all depthwise")
def mobileone(net: Net) -> None:
    x = image(net)
    y = net.bn(x, 4)
    for kernel in (3, 3, 3, 3, 1):
        y = net.op("Add", y, conv_bn(net, x, kernel, group=4))
    net.output(net.op("Relu", y))


@fold("a kernel of five and one of three beside the BN, 1-D")
def large_kernel_1d(net: Net) -> None:
    x = net.op("Relu", net.input("x", (2, 4, 12)))
    y = net.op("Conv", x, net.weight(4, 1, 5), pads=[2, 2], group=4)
    z = net.op("Conv", x, net.weight(4, 1, 3), pads=[1, 1], group=4)
    y = net.op("Add", net.bn(y, 4), net.bn(z, 4))
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))


@fold("dilated: the centre tap is the centre tap")
def identity_dilated(net: Net) -> None:
    x = image(net)
    y = net.conv(x, 4, 4, 3, dilations=[2, 2], pads=[2] * 4)
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))


@fold("a BN beside a 1x1 Conv")
def identity_pointwise(net: Net) -> None:
    x = image(net)
    net.output(net.op("Relu", net.op("Add", net.bn(x, 4), net.conv(x, 4, 4, 1))))


@fold("Conv(x) - BN(x): the diagonal is subtracted", vary={"order": ("conv", "bn")})
def identity_subtracted(net: Net, order: str) -> None:
    x = image(net)
    pair = (net.conv(x, 4, 4, 3, pads=[1] * 4), net.bn(x, 4))
    net.output(net.op("Relu", net.op("Sub", *(pair if order == "conv" else pair[::-1]))))


@fold("FastViT's token mixer: x + gamma * ((BN(DW(x)) + BN(x)) - BN(x))")
def repmixer(net: Net) -> None:
    x = image(net)
    mixed = net.op("Add", conv_bn(net, x, 3, group=4), net.bn(x, 4))
    y = net.op("Sub", mixed, net.bn(x, 4))
    net.output(net.op("Relu", net.op("Add", x, net.op("Mul", net.weight(4, 1, 1), y))))


@fold("a branch that's plain x (Identity) beside a BN and a Conv")
def identity_and_bn_and_conv(net: Net) -> None:
    x = image(net)
    y = net.op("Add", net.op("Add", x, net.bn(x, 4)), net.conv(x, 4, 4, 3, pads=[1] * 4))
    net.output(net.op("Relu", y))


@fold("BN behind the sum of the branches too")
def branches_then_bn(net: Net) -> None:
    x = image(net)
    y = net.op("Add", conv_bn(net, x, 3), net.bn(x, 4))
    net.output(net.op("Relu", net.bn(y, 4)))


@fold("the shortcut's BN must stay: no Conv of its own input beside it", left=1)
def shortcut_bn_of_another_depth(net: Net) -> None:
    x = image(net)
    y = conv_bn(net, net.op("Relu", conv_bn(net, x, 3)), 3)
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))


@fold("one Conv, two BNs, added: (s1 + s2)*x + t1 + t2")
def two_bns_of_one_conv_added(net: Net) -> None:
    y = net.conv(net.input(), 4, 4)
    net.output(net.op("Relu", net.op("Add", net.bn(y, 4), net.bn(y, 4))))


@policy("a BN and its own input, added, behind one Conv: (1 + s)*x + t, absorbed by the Conv")
def bn_plus_its_conv(net: Net) -> None:
    y = net.conv(net.input(), 4, 4)
    z = net.op("Add", y, net.bn(y, 4))
    net.output(net.op("Relu", z))


@policy("one Conv, two BNs, two readers: the Conv would have to be doubled")
def two_bns_of_one_conv(net: Net) -> None:
    y = net.conv(net.input(), 4, 4)
    net.output(net.op("Relu", net.bn(y, 4)))
    net.output(net.op("Sigmoid", net.bn(y, 4)))


@policy("one Conv, two equal BNs: one is enough")
def two_equal_bns_of_one_conv(net: Net) -> None:
    y = net.conv(net.input(), 4, 4)
    parameters = [net.const(p) for p in net.statistics(4)]
    net.output(net.op("Relu", net.bn(y, 4, parameters=parameters)))
    net.output(net.op("Sigmoid", net.bn(y, 4, parameters=parameters)))


@policy("a BN beside a square Gemm is a diagonal too")
def identity_gemm(net: Net) -> None:
    x = net.op("Relu", net.input("x", (3, 4)))
    y = net.op("Gemm", x, net.weight(4, 4), net.weight(4))
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))


@policy("x + BN(x) in front of a 1x1 Conv: (1 + s)*x + t goes down")
def identity_plus_bn_conv(net: Net) -> None:
    x = image(net)
    net.output(net.conv(net.op("Add", x, net.bn(x, 4)), 4, 6, 1))


@policy("two BNs of one input, added, are one BN")
def two_bns_of_one_input_added(net: Net) -> None:
    x = image(net)
    net.output(net.op("Relu", net.op("Add", net.bn(x, 4), net.bn(x, 4))))


@policy("Conv padded on one side: the BN's tap isn't the centre, but there is one")
def identity_off_centre(net: Net) -> None:
    x = image(net)
    y = net.conv(x, 4, 4, 3, pads=[0, 0, 2, 2])
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))


@policy("an even kernel has no centre, but SAME padding tells which tap sees the pixel itself")
def identity_even_kernel(net: Net) -> None:
    x = image(net)
    y = net.conv(x, 4, 4, 2, auto_pad="SAME_UPPER")
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))


@keep("two inputs, not one")
def branches_of_two_inputs(net: Net) -> None:
    x, z = image(net), net.op("Relu", net.input("z"))
    y = net.conv(x, 4, 4, 3, pads=[1] * 4)
    net.output(net.op("Relu", net.op("Add", y, net.bn(z, 4))))


@keep("the Conv's result is read elsewhere")
def branch_has_another_reader(net: Net) -> None:
    x = image(net)
    y = net.conv(x, 4, 4, 3, pads=[1] * 4)
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))
    net.output(net.op("Sigmoid", y))


@keep("a Relu stands on the BN's branch", vary={"where": ("bn", "conv")})
def branch_with_relu(net: Net, where: str) -> None:
    x = image(net)
    y, z = net.conv(x, 4, 4, 3, pads=[1] * 4), net.bn(x, 4)
    pair = (y, net.op("Relu", z)) if where == "bn" else (net.op("Relu", y), z)
    net.output(net.op("Relu", net.op("Add", *pair)))


@keep("the branches are multiplied")
def branches_multiplied(net: Net) -> None:
    x = image(net)
    y = net.conv(x, 4, 4, 3, pads=[1] * 4)
    net.output(net.op("Relu", net.op("Mul", y, net.bn(x, 4))))


@keep("the Conv makes one channel that the Add broadcasts")
def branch_broadcast(net: Net) -> None:
    x = image(net)
    y = net.conv(x, 4, 1, 3, pads=[1] * 4)
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))


@keep("the Conv makes one pixel that the Add broadcasts: no padding, kernel as large as the image")
def branch_broadcast_pixel(net: Net) -> None:
    x = image(net)
    y = net.conv(x, 4, 4, 6)
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))


@keep("the BN's branch is upside down in space: same shape, other pixels")
def branch_transposed(net: Net) -> None:
    x = image(net)
    y = net.op("Transpose", net.conv(x, 4, 4, 3, pads=[1] * 4), perm=[0, 1, 3, 2])
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))


@keep("DenseNet: every layer reads all that came before", left=3)
def densenet(net: Net) -> None:
    y = net.conv(net.input(), 4, 4, 3, pads=[1] * 4)
    for i in range(3):
        channels = 4 + 2 * i
        z = net.op("Relu", net.bn(y, channels))
        z = net.conv(z, channels, 2, 3, bias=False, pads=[1] * 4)
        y = net.op("Concat", y, z, axis=1)
    net.output(y)


@keep("pre-activation residual network: BN reads the trunk, a Relu follows", left=2)
def preactivation(net: Net) -> None:
    y = net.conv(net.input(), 4, 4, 3, pads=[1] * 4)
    for _ in range(2):
        z = net.op("Relu", net.bn(y, 4))
        y = net.op("Add", y, net.conv(z, 4, 4, 3, pads=[1] * 4))
    net.output(y)


@keep("another input, and broadcast over the batch")
def branch_broadcast_batch(net: Net) -> None:
    x = image(net)
    z = net.op("Relu", net.input("z", (1, 4, 6, 6)))
    y = net.conv(x, 4, 4, 3, pads=[1] * 4)
    net.output(net.op("Relu", net.op("Add", y, net.bn(z, 4))))


@keep("t = 0, but the scale of one branch can't pass the Add")
def branch_scale_below_add(net: Net) -> None:
    x = image(net)
    y = net.op("Add", net.op("Sigmoid", x), net.bn(x, 4, shift=False))
    net.output(net.conv(y, 4, 4, 3, pads=[1] * 4))


@fold("s = 1, t = 0: nothing at all")
def trivial_bn(net: Net) -> None:
    one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    y = net.conv(net.input(), 4, 4)
    net.output(net.bn(y, 4, parameters=(one, zero, zero, one), epsilon=0.0))


@fold(
    "the Conv's padding is SAME: it has a centre all the same",
    vary={"auto_pad": ("SAME_UPPER", "SAME_LOWER")},
)
def identity_same_padding(net: Net, auto_pad: str) -> None:
    x = image(net)
    y = net.conv(x, 4, 4, 3, auto_pad=auto_pad)
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))))


@fold("symbolic sizes: padding by a centred kernel keeps any")
def repvgg_dynamic(net: Net) -> None:
    x = net.op("Relu", net.input("x", ("N", 4, "H", "W"), sizes=(2, 4, 5, 7)))
    y = net.op("Add", conv_bn(net, x, 3), conv_bn(net, x, 1))
    z = net.op("Relu", net.op("Add", y, net.bn(x, 4)))
    net.output(z, shape=("N", 4, None, None))


@keep("symbolic sizes and no padding: a kernel as large as the image would broadcast")
def branch_broadcast_unknown(net: Net) -> None:
    x = net.op("Relu", net.input("x", ("N", 4, "H", "W"), sizes=(2, 4, 3, 3)))
    y = net.conv(x, 4, 4, 3)
    net.output(net.op("Relu", net.op("Add", y, net.bn(x, 4))), shape=("N", 4, None, None))

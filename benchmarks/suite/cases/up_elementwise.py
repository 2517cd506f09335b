"""BN behind constants added and multiplied, other BNs, and other normalizations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.suite.registry import fold, keep, policy

if TYPE_CHECKING:
    from benchmarks.suite.net import Net


@fold(
    "Conv, a constant, BN: affine after affine",
    vary={"op": ("Add", "Sub", "Mul", "Div"), "shape": ((6, 1, 1), (1, 6, 1, 1), ())},
)
def conv_constant_bn(net: Net, op: str, shape: tuple[int, ...]) -> None:
    constant = np.asarray(net.random(*shape), np.float32)
    constant = np.where(np.abs(constant) < 0.2, np.float32(0.7), constant)
    net.output(net.bn(net.op(op, net.conv(net.input(), 4, 6), net.const(constant)), 6))


@fold("c - y: scale -1, shift c")
def conv_reversed_sub_bn(net: Net) -> None:
    y = net.op("Sub", net.weight(6, 1, 1), net.conv(net.input(), 4, 6))
    net.output(net.bn(y, 6))


@fold("constant on the left", vary={"op": ("Add", "Mul")})
def constant_left_bn(net: Net, op: str) -> None:
    net.output(net.bn(net.op(op, net.weight(1, 6, 1, 1), net.conv(net.input(), 4, 6)), 6))


@fold(
    "Mul and Add by constants at the input absorb the BN behind them",
    vary={"shape": ((4, 1, 1), ())},
)
def input_mul_add_bn(net: Net, shape: tuple[int, ...]) -> None:
    x = net.op("Mul", net.input(), net.const(np.asarray(net.random(*shape), np.float32)))
    x = net.op("Add", x, net.const(np.asarray(net.random(*shape), np.float32)))
    net.output(net.op("Relu", net.bn(x, 4)))


@fold(
    "K varies over space: K' = s*K + t, the scale goes on to the Conv",
    vary={"shape": ((6, 4, 4), (4, 4), (1, 1, 1, 4), (2, 6, 4, 4), (4, 1))},
)
def conv_add_spatial(net: Net, shape: tuple[int, ...]) -> None:
    y = net.op("Add", net.conv(net.input(), 4, 6), net.weight(*shape))
    net.output(net.bn(y, 6))


@fold(
    "c (W) with W = C: numpy aligns it with the last axis, K' is (C, 1, W)",
    vary={"op": ("Add", "Sub")},
)
def conv_add_width_lookalike(net: Net, op: str) -> None:
    y = net.op(op, net.conv(net.input("x", (2, 4, 6, 6)), 4, 4), net.weight(4))
    net.output(net.bn(y, 4))


@fold("y - K over space: s*(y - K) + t = s*y - (s*K - t)")
def conv_sub_spatial(net: Net) -> None:
    y = net.op("Sub", net.conv(net.input(), 4, 6), net.weight(6, 4, 4))
    net.output(net.bn(y, 6))


@fold("K - y over space: the scale reaches the Conv, the shift K")
def conv_reversed_sub_spatial(net: Net) -> None:
    y = net.op("Sub", net.weight(6, 4, 4), net.conv(net.input(), 4, 6))
    net.output(net.bn(y, 6))


@fold("position embedding: Linear over a sequence, Add (T, N), Transpose, BN")
def linear_position_embedding(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (2, 7, 5)), net.weight(5, 6))
    y = net.op("Add", y, net.weight(7, 6))
    net.output(net.bn(net.op("Transpose", y, perm=[0, 2, 1]), 6))


@fold("two BNs at the input are one", left=1)
def bn_bn_at_input(net: Net) -> None:
    net.output(net.op("Relu", net.bn(net.bn(net.input(), 4), 4)))


@fold("scale' = s*scale, B' = s*B + t")
def instance_normalization(net: Net) -> None:
    x = net.input()
    y = net.op("InstanceNormalization", x, net.weight(4), net.weight(4), epsilon=1e-3)
    net.output(net.op("Relu", net.bn(y, 4)))


@fold("scale and bias are per channel from version 21 on", opset=21, vary={"num_groups": (2, 4)})
def group_normalization(net: Net, num_groups: int) -> None:
    x = net.input()
    y = net.op("GroupNormalization", x, net.weight(4), net.weight(4), num_groups=num_groups)
    net.output(net.op("Relu", net.bn(y, 4)), shape=(2, 4, 6, 6))


@fold("LayerNormalization over the channels", vary={"bias": (True, False)})
def layer_normalization(net: Net, bias: bool) -> None:
    inputs = [net.input("x", (3, 6)), net.weight(6)] + [net.weight(6)] * bias
    net.output(net.op("Relu", net.bn(net.op("LayerNormalization", *inputs, axis=1), 6)))


@fold("normalized over (C, H, W): scale and bias have the channel axis")
def layer_normalization_over_all(net: Net) -> None:
    y = net.op("LayerNormalization", net.input(), net.weight(4, 6, 6), net.weight(4, 6, 6), axis=1)
    net.output(net.op("Relu", net.bn(y, 4)))


@fold("channels last, then Transpose (ConvNeXt)")
def layer_normalization_channels_last(net: Net) -> None:
    x = net.op("Transpose", net.input(), perm=[0, 2, 3, 1])
    y = net.op("LayerNormalization", x, net.weight(4), net.weight(4))
    net.output(net.op("Relu", net.bn(net.op("Transpose", y, perm=[0, 3, 1, 2]), 4)))


@keep("LayerNormalization over W: its scale is per column, W = C", left=1)
def layer_normalization_over_width(net: Net) -> None:
    x = net.input("x", (2, 4, 3, 4))
    y = net.op("LayerNormalization", x, net.weight(4), net.weight(4))
    net.output(net.op("Relu", net.bn(y, 4)))


@keep("RMSNormalization has no bias for the shift", opset=23)
def rms_normalization(net: Net) -> None:
    y = net.op("RMSNormalization", net.input("x", (3, 6)), net.weight(6))
    net.output(net.op("Relu", net.bn(y, 6)))


@keep("InstanceNormalization with a scale that's an input")
def instance_normalization_dynamic(net: Net) -> None:
    y = net.op("InstanceNormalization", net.input(), net.input("s", (4,)), net.weight(4))
    net.output(net.op("Relu", net.bn(y, 4)))


@policy(
    "k (W) with W = C: s can be put into it as (C, 1, W), t can only become an Add",
    vary={"op": ("Mul", "Div")},
)
def conv_mul_width_lookalike(net: Net, op: str) -> None:
    y = net.conv(net.input("x", (2, 4, 6, 6)), 4, 4)
    k = net.const(net.random(4) + np.float32(3))
    net.output(net.op("Relu", net.bn(net.op(op, y, k), 4)))


@policy("(H, 1) with H = C: the same")
def conv_mul_height_lookalike(net: Net) -> None:
    y = net.conv(net.input("x", (2, 4, 6, 6)), 4, 4)
    net.output(net.op("Relu", net.bn(net.op("Mul", y, net.weight(4, 1)), 4)))


@policy("(N, 1, 1, 1) with N = C: per sample; the same")
def conv_mul_batch_lookalike(net: Net) -> None:
    y = net.conv(net.input("x", (4, 4, 6, 6)), 4, 4)
    net.output(net.op("Relu", net.bn(net.op("Mul", y, net.weight(4, 1, 1, 1)), 4)))


@keep("a factor that's computed (squeeze and excitation)")
def squeeze_excite(net: Net) -> None:
    y = net.conv(net.input(), 4, 4)
    gate = net.op("Sigmoid", net.op("GlobalAveragePool", y))
    net.output(net.op("Relu", net.bn(net.op("Mul", y, gate), 4)))


@policy("c / y isn't affine, but s can be put into c; t can only become an Add")
def reciprocal(net: Net) -> None:
    y = net.op("Exp", net.conv(net.input(), 4, 4))
    net.output(net.op("Relu", net.bn(net.op("Div", net.weight(4, 1, 1), y), 4)))


@keep("the product of two Convs: the shift can't pass")
def product_of_convs(net: Net) -> None:
    x = net.input()
    y = net.op("Mul", net.conv(x, 4, 4), net.conv(x, 4, 4))
    net.output(net.op("Relu", net.bn(y, 4)))


@keep("the constant broadcasts the tensor: one channel in, four out")
def add_makes_the_channels(net: Net) -> None:
    y = net.op("Add", net.conv(net.input(), 4, 1), net.weight(4, 1, 1))
    net.output(net.op("Relu", net.bn(y, 4)))


@keep("Pow by a constant isn't affine")
def power(net: Net) -> None:
    y = net.op("Pow", net.conv(net.input(), 4, 4), net.const(np.float32(2)))
    net.output(net.op("Relu", net.bn(y, 4)))


@fold("the normalization's other outputs don't depend on its scale")
def layer_normalization_mean_is_read(net: Net) -> None:
    inputs = net.input("x", (3, 6)), net.weight(6), net.weight(6)
    y, mean, _ = net.op("LayerNormalization", *inputs, axis=1, out=3)
    net.output(net.op("Relu", net.bn(y, 6)))
    net.output(mean)


@keep("the constant has more axes: axis 1 is the Conv's batch now")
def constant_raises_the_rank(net: Net) -> None:
    y = net.op("Conv", net.input("x", (4, 3, 6)), net.weight(4, 3, 3))
    net.output(net.op("Relu", net.bn(net.op("Add", y, net.weight(2, 1, 1, 1)), 4)))


@policy("the same with a factor: s can be put into it, t can only become an Add")
def factor_raises_the_rank(net: Net) -> None:
    y = net.op("Conv", net.input("x", (4, 3, 6)), net.weight(4, 3, 3))
    net.output(net.op("Relu", net.bn(net.op("Mul", y, net.weight(2, 1, 1, 1)), 4)))


@keep("the other tensor has more axes")
def sum_raises_the_rank(net: Net) -> None:
    y = net.op("Conv", net.input("x", (4, 3, 6)), net.weight(4, 3, 3))
    z = net.op("Conv", net.input("z", (2, 3, 4, 4)), net.weight(4, 3, 1, 1))
    net.output(net.op("Relu", net.bn(net.op("Add", y, z), 4)))


@keep("an operator of the runtime with a Relu inside")
def fused_conv(net: Net) -> None:
    net.opsets["com.microsoft"] = 1
    weights = net.weight(6, 4, 3, 3), net.weight(6)
    y = net.op("FusedConv", net.input(), *weights, domain="com.microsoft", activation="Relu")
    net.output(net.op("Tanh", net.bn(y, 6)), shape=(2, 6, 4, 4))

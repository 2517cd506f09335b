"""Tensors with several users, and names that are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.suite.registry import fold, policy

if TYPE_CHECKING:
    from benchmarks.suite.net import Net

SUFFIXES = (
    "_folded", "_fused", "_bn", "_new", "_1", "_0", "_bias", "_scale", "_shift", "_weight",
    ".1", "/bias", "_normswap", "_affine", "_copy", "_2", "_b", "_t", "_s", "_add", "_3",
)  # fmt: skip


@fold("one weight, two Convs, two BNs: each gets its own")
def weight_of_two_convs(net: Net) -> None:
    x, w = net.input(), net.weight(4, 4, 3, 3)
    y = net.op("Relu", net.bn(net.op("Conv", x, w), 4))
    net.output(net.op("Relu", net.bn(net.op("Conv", y, w), 4)))


@fold("one weight, two Convs, one BN: the other keeps the raw weight")
def weight_of_a_plain_conv(net: Net) -> None:
    x, w, b = net.input(), net.weight(4, 4, 3, 3), net.weight(4)
    y = net.op("Relu", net.bn(net.op("Conv", x, w, b), 4))
    net.output(net.op("Conv", y, w, b))


@fold("one bias of two Convs")
def bias_of_two_convs(net: Net) -> None:
    x, b = net.input(), net.weight(4)
    y = net.op("Relu", net.bn(net.op("Conv", x, net.weight(4, 4, 3, 3), b), 4))
    net.output(net.op("Conv", y, net.weight(4, 4, 3, 3), b))


@fold("one Conv's weight is another's, transposed (tied autoencoder)")
def tied_weight(net: Net) -> None:
    x, w = net.input("x", (3, 5)), net.weight(6, 5)
    y = net.op("Relu", net.bn(net.op("Gemm", x, w, transB=1), 6))
    net.output(net.op("Gemm", y, w))


@fold("the Conv's bias is the BN's B")
def bias_is_b(net: Net) -> None:
    scale, B, mean, var = (net.const(p) for p in net.statistics(6))
    y = net.op("Conv", net.input(), net.weight(6, 4, 3, 3), B)
    net.output(net.op("Relu", net.bn(y, 6, parameters=(scale, B, mean, var))))


@fold("scale and var are one tensor, B and mean another")
def statistics_are_one_tensor(net: Net) -> None:
    positive, anything = (net.const(p) for p in (net.statistics(6)[3], net.random(6)))
    y = net.conv(net.input(), 4, 6)
    net.output(net.op("Relu", net.bn(y, 6, parameters=(positive, anything, anything, positive))))


@fold("one set of statistics, two BNs")
def statistics_of_two_bns(net: Net) -> None:
    shared = [net.const(p) for p in net.statistics(4)]
    y = net.op("Relu", net.bn(net.conv(net.input(), 4, 4), 4, parameters=shared))
    net.output(net.op("Relu", net.bn(net.conv(y, 4, 4), 4, parameters=shared)))


@fold("the BN's scale is also added somewhere")
def scale_is_read_elsewhere(net: Net) -> None:
    scale, B, mean, var = (net.const(p) for p in net.statistics(4))
    y = net.bn(net.conv(net.input(), 4, 4), 4, parameters=(scale, B, mean, var))
    net.output(net.op("Relu", y))
    net.output(net.op("Mul", scale, net.input("k", (4,))))


@fold("the weight is an output of the model as well")
def weight_is_output(net: Net) -> None:
    w = net.weight(6, 4, 3, 3)
    net.output(net.op("Relu", net.bn(net.op("Conv", net.input(), w), 6)))
    net.output(w, shape=(6, 4, 3, 3))


@fold("the weight of a Conv is the data of another operator")
def weight_is_data(net: Net) -> None:
    w = net.weight(6, 4, 3, 3)
    net.output(net.op("Relu", net.bn(net.op("Conv", net.input(), w), 6)))
    net.output(net.op("Add", net.input("z", (6, 4, 3, 3)), w))


@fold(
    "every likely name of a folded tensor is taken, and in use",
    vary={"base": ("w", "b", "y", "z", "bn", "conv")},
)
def names_are_taken(net: Net, base: str) -> None:
    names = {"w": "w", "b": "b", "y": "y", "z": "z"}
    y = net.op(
        "Conv", net.input(), net.weight(6, 4, 3, 3, name=names["w"]), net.weight(6, name="b"),
        out="y", name="conv",
    )  # fmt: skip
    z = net.op(
        "BatchNormalization", y, *(net.const(p) for p in net.statistics(6)), out="z", name="bn"
    )
    taken = [net.const(np.float32(i), base + suffix) for i, suffix in enumerate(SUFFIXES)]
    net.output(z)
    net.output(net.op("Sum", net.input("k", ()), *taken))


@fold("a tensor is called as the nodes are")
def tensors_named_as_nodes(net: Net) -> None:
    y = net.op("Conv", net.input(), net.weight(6, 4, 3, 3, name="W"), out="conv", name="z")
    z = net.op(
        "BatchNormalization", y, *(net.const(p) for p in net.statistics(6)), out="z", name="conv"
    )
    net.output(z)


@fold("names with everything that a file system or a shell would mind")
def odd_names(net: Net) -> None:
    y = net.op("Conv", net.input("x:0"), net.weight(6, 4, 3, 3, name="ß/w 'q'\n{}[%s]"), out="../y")
    parameters = [net.const(p) for p in net.statistics(6)]
    net.output(net.op("BatchNormalization", y, *parameters, out="z:0"))


@fold("the BN's output is the model's, and read by others too")
def bn_output_is_read_and_output(net: Net) -> None:
    z = net.bn(net.conv(net.input(), 4, 6), 6)
    net.output(z)
    net.output(net.op("Relu", z))
    net.output(net.op("Sigmoid", z))


@fold("the same output twice removed: Identity to a second output")
def identity_output(net: Net) -> None:
    z = net.bn(net.conv(net.input(), 4, 6), 6)
    net.output(net.op("Identity", z))
    net.output(net.op("Relu", z))


@fold("the MatMul's new Add gets a name that nobody has", vary={"name": ("y", "matmul")})
def matmul_names(net: Net, name: str) -> None:
    y = net.op("MatMul", net.input("x", (3, 5)), net.weight(5, 6), out="y", name="matmul")
    z = net.op(
        "BatchNormalization", y, *(net.const(p) for p in net.statistics(6)), out="z", name="bn"
    )
    taken = [net.const(np.float32(i), name + suffix) for i, suffix in enumerate(SUFFIXES)]
    net.output(z)
    net.output(net.op("Sum", net.input("k", ()), *taken))


@fold("an unused output, an unused initializer, an unused input are none of the fold's business")
def unused(net: Net) -> None:
    net.weight(3, 3, name="nobody")
    net.input("ignored", (2,))
    x = net.input()
    net.op("Sigmoid", x)
    net.output(net.op("Relu", net.bn(net.conv(x, 4, 6), 6)))


@fold("two inputs, two outputs, in an order that must survive")
def order_of_outputs(net: Net) -> None:
    x, z = net.input("b"), net.input("a")
    first = net.bn(net.conv(z, 4, 6), 6)
    second = net.bn(net.conv(x, 4, 3), 3)
    net.output(second)
    net.output(first)


@policy("a BN that nobody reads")
def dead_bn(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    net.bn(y, 6)
    net.output(net.op("Relu", y))


@policy("a BN alone at the input and output of the model")
def bn_alone(net: Net) -> None:
    net.output(net.bn(net.input(), 4))

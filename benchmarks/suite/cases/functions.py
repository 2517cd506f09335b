"""BNs in model-local functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import AttributeProto, helper

from benchmarks.suite.registry import fold, keep, policy

if TYPE_CHECKING:
    from benchmarks.suite.net import Net, Scope

ARGUMENTS = ["x", "w", "scale", "B", "mean", "var"]


def conv_bn_function(net: Net, name: str = "ConvBN") -> None:
    """Define a function of everything: x, the weight, and the four statistics."""
    f = net.function(name, ARGUMENTS)
    y = f.op("Conv", "x", "w")
    f.returns(f.op("BatchNormalization", y, *ARGUMENTS[2:]))


def call(
    net: Net, scope: Scope, x: str, name: str = "ConvBN", channels: tuple[int, int] = (4, 6)
) -> str:
    weight = net.weight(channels[1], channels[0], 3, 3)
    statistics = [net.const(p) for p in net.statistics(channels[1])]
    return scope.op(name, x, weight, *statistics, domain="local")


@fold("weights within the function, as Constant nodes")
def constants_inside(net: Net) -> None:
    f = net.function("Block", ["x"])
    f.returns(f.bn(f.conv("x", 4, 6), 6))
    net.output(net.op("Relu", net.op("Block", net.input(), domain="local")), shape=(2, 6, 4, 4))


@fold("called twice, its constants the same for both")
def constants_inside_called_twice(net: Net) -> None:
    f = net.function("Block", ["x"])
    f.returns(f.op("Relu", f.bn(f.conv("x", 4, 4, pads=[1] * 4), 4)))
    y = net.op("Block", net.op("Block", net.input(), domain="local"), domain="local")
    net.output(y, shape=(2, 4, 6, 6))


@fold("weights as arguments: constants at the only call")
def arguments(net: Net) -> None:
    conv_bn_function(net)
    net.output(net.op("Relu", call(net, net, net.input())), shape=(2, 6, 4, 4))


@fold("called twice with two sets of weights: one copy of the function for each")
def arguments_called_twice(net: Net) -> None:
    conv_bn_function(net)
    y = net.op("Relu", call(net, net, net.input(), channels=(4, 6)))
    net.output(call(net, net, y, channels=(6, 5)), shape=(2, 5, 2, 2))


@fold("called twice with the same weights on two tensors")
def arguments_shared(net: Net) -> None:
    conv_bn_function(net)
    x = net.input()
    weights = [net.weight(4, 4, 3, 3)] + [net.const(p) for p in net.statistics(4)]
    y = net.op("Relu", net.op("ConvBN", x, *weights, domain="local"))
    net.output(net.op("ConvBN", y, *weights, domain="local"), shape=(2, 4, 2, 2))


@fold("a function that calls the function")
def nested(net: Net) -> None:
    conv_bn_function(net)
    f = net.function("Stage", ["x", *(a + i for i in "12" for a in ARGUMENTS[1:])])
    y = f.op("Relu", f.op("ConvBN", "x", *(a + "1" for a in ARGUMENTS[1:]), domain="local"))
    f.returns(f.op("ConvBN", y, *(a + "2" for a in ARGUMENTS[1:]), domain="local"))
    weights = []
    for channels in ((4, 6), (6, 5)):
        weights.append(net.weight(channels[1], channels[0], 3, 3))
        weights += [net.const(p) for p in net.statistics(channels[1])]
    net.output(net.op("Stage", net.input(), *weights, domain="local"), shape=(2, 5, 2, 2))


@fold("the epsilon is the function's attribute", vary={"epsilon": (0.0, 0.25)})
def epsilon_attribute(net: Net, epsilon: float) -> None:
    f = net.function("ConvBN", ARGUMENTS, attributes=["eps"])
    y = f.op("Conv", "x", "w")
    z = f.op("BatchNormalization", y, *ARGUMENTS[2:])
    f.refer("epsilon", "eps", AttributeProto.FLOAT)
    f.returns(z)
    weights = [net.weight(6, 4, 3, 3)] + [net.const(p) for p in net.statistics(6)]
    y = net.op("ConvBN", net.input(), *weights, domain="local", eps=epsilon)
    net.output(y, shape=(2, 6, 4, 4))


@fold("the epsilon has a default that the call leaves alone")
def epsilon_default(net: Net) -> None:
    default = helper.make_attribute("eps", 0.5)
    f = net.function("ConvBN", ARGUMENTS, attribute_protos=[default])
    y = f.op("Conv", "x", "w")
    z = f.op("BatchNormalization", y, *ARGUMENTS[2:])
    f.refer("epsilon", "eps", AttributeProto.FLOAT)
    f.returns(z)
    weights = [net.weight(6, 4, 3, 3)] + [net.const(p) for p in net.statistics(6)]
    net.output(net.op("ConvBN", net.input(), *weights, domain="local"), shape=(2, 6, 4, 4))


@fold("called with two values of the attribute: two different folds")
def epsilon_differs_by_call(net: Net) -> None:
    f = net.function("Block", ["x"], attributes=["eps"])
    y = f.conv("x", 4, 4, pads=[1] * 4)
    parameters = [f.const(p) for p in f.statistics(4)]
    z = f.op("BatchNormalization", y, *parameters)
    f.refer("epsilon", "eps", AttributeProto.FLOAT)
    f.returns(f.op("Relu", z))
    y = net.op("Block", net.input(), domain="local", eps=0.1)
    net.output(net.op("Block", y, domain="local", eps=2.0), shape=(2, 4, 6, 6))


@fold("called in the branch of an If")
def called_in_a_branch(net: Net) -> None:
    conv_bn_function(net)
    x = net.input()
    net.input("cond", (), np.bool_, feed=True)
    graphs = []
    for name in ("then", "else"):
        body = net.body()
        body.output(call(net, body, x), shape=(2, 6, 4, 4))
        graphs.append(body.graph(name))
    y = net.op("If", "cond", then_branch=graphs[0], else_branch=graphs[1])
    net.output(y, shape=(2, 6, 4, 4))


@fold("the function's own weight is computed from its arguments")
def computed_inside(net: Net) -> None:
    f = net.function("Block", ["x", "w", "gain"])
    w = f.op("Mul", "w", "gain")
    f.returns(f.op("Relu", f.bn(f.op("Conv", "x", w), 6)))
    weights = net.weight(6, 4, 3, 3), net.weight(6, 1, 1, 1)
    net.output(net.op("Block", net.input(), *weights, domain="local"), shape=(2, 6, 4, 4))


@policy("the Conv calls from outside, the BN is alone in its function")
def bn_alone_in_function(net: Net) -> None:
    f = net.function("Norm", ["x", *ARGUMENTS[2:]])
    f.returns(f.op("BatchNormalization", "x", *ARGUMENTS[2:]))
    y = net.conv(net.input(), 4, 6)
    statistics = [net.const(p) for p in net.statistics(6)]
    net.output(net.op("Relu", net.op("Norm", y, *statistics, domain="local")), shape=(2, 6, 4, 4))


@policy("the Conv is alone in its function, the BN outside")
def conv_alone_in_function(net: Net) -> None:
    f = net.function("Linear", ["x", "w"])
    f.returns(f.op("Conv", "x", "w"))
    y = net.op("Linear", net.input(), net.weight(6, 4, 3, 3), domain="local")
    net.output(net.op("Relu", net.bn(y, 6)), shape=(2, 6, 4, 4))


@keep("one of the two calls passes a weight that's an input of the model")
def argument_is_input(net: Net) -> None:
    conv_bn_function(net)
    statistics = [net.const(p) for p in net.statistics(6)]
    y = net.op("ConvBN", net.input(), net.input("w", (6, 4, 3, 3)), *statistics, domain="local")
    net.output(net.op("Relu", y), shape=(2, 6, 4, 4))


@fold("the call with constants folds, the call with an input doesn't", left=1)
def argument_is_input_once(net: Net) -> None:
    conv_bn_function(net)
    y = net.op("Relu", call(net, net, net.input(), channels=(4, 4)))
    statistics = [net.const(p) for p in net.statistics(6)]
    z = net.op("ConvBN", y, net.input("w", (6, 4, 3, 3)), *statistics, domain="local")
    net.output(net.op("Relu", z), shape=(2, 6, 2, 2))


@keep("the function returns the Conv's result too")
def returns_the_conv(net: Net) -> None:
    f = net.function("Block", ["x"])
    y = f.conv("x", 4, 6)
    f.returns(f.op("Relu", f.bn(y, 6)), y)
    for output in net.op("Block", net.input(), domain="local", out=2):
        net.output(output, shape=(2, 6, 4, 4))


@keep("training is switched on by the call", runs_in="reference")
def training_attribute(net: Net) -> None:
    f = net.function("ConvBN", ARGUMENTS, attributes=["training"])
    y = f.op("Conv", "x", "w")
    z, mean, var = f.op("BatchNormalization", y, *ARGUMENTS[2:], out=3)
    f.refer("training_mode", "training", AttributeProto.INT)
    f.returns(z, mean, var)
    weights = [net.weight(6, 4, 3, 3)] + [net.const(p) for p in net.statistics(6)]
    outputs = net.op("ConvBN", net.input(), *weights, domain="local", training=1, out=3)
    net.output(outputs[0], shape=(2, 6, 4, 4))


@fold("the same operator name in two domains, one of them folded")
def overload_of_another_domain(net: Net) -> None:
    for domain in ("local", "other"):
        f = net.function("Block", ["x"], domain=domain)
        y = f.conv("x", 4, 4, pads=[1] * 4)
        f.returns(f.op("Relu", f.bn(y, 4) if domain == "local" else y))
    y = net.op("Block", net.input(), domain="local")
    net.output(net.op("Block", y, domain="other"), shape=(2, 4, 6, 6))


@fold("an If within the function; its branches capture the function's arguments")
def if_inside(net: Net) -> None:
    f = net.function("Block", ["cond", *ARGUMENTS])
    graphs = []
    for name in ("then", "else"):
        body = net.body()
        y = body.op("Conv", "x", "w")
        y = body.op("BatchNormalization", y, *ARGUMENTS[2:]) if name == "then" else y
        body.output(y, shape=(2, 6, 4, 4))
        graphs.append(body.graph(name))
    f.returns(f.op("Relu", f.op("If", "cond", then_branch=graphs[0], else_branch=graphs[1])))
    weights = [net.weight(6, 4, 3, 3)] + [net.const(p) for p in net.statistics(6)]
    cond = net.input("cond", (), np.bool_, feed=True)
    y = net.op("Block", cond, net.input(), *weights, domain="local")
    net.output(y, shape=(2, 6, 4, 4))

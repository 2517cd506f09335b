"""BNs in the bodies of If, Loop and Scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from benchmarks.suite.registry import fold, keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.suite.net import Net, Scope

BODY = "a body's Conv and BN are as close as any; constants of the outer graph are constants"


def condition(net: Net, *, value: bool = True) -> str:
    return net.input("cond", (), np.bool_, feed=value)


def if_node(
    net: Net, scope: Scope, then: Callable[[Scope], str], otherwise: Callable[[Scope], str]
) -> str:
    graphs = []
    for name, fill in (("then", then), ("else", otherwise)):
        body = net.body()
        body.output(fill(body))
        graphs.append(body.graph(name))
    return scope.op("If", "cond", then_branch=graphs[0], else_branch=graphs[1])


@fold(BODY, vary={"value": (True, False)})
def if_conv_bn(net: Net, value: bool) -> None:
    x = net.input()
    condition(net, value=value)
    y = if_node(net, net, lambda b: b.bn(b.conv(x, 4, 6), 6), lambda b: b.bn(b.conv(x, 4, 6), 6))
    net.output(y)


@fold(
    "weights and statistics of the outer graph, shared by both branches, with two BNs",
    vary={"value": (True, False)},
)
def if_outer_weights(net: Net, value: bool) -> None:
    x, w, b = net.input(), net.weight(6, 4, 3, 3), net.weight(6)
    condition(net, value=value)
    shared = [net.const(p) for p in net.statistics(6)]

    def then(body: Scope) -> str:
        return body.bn(body.op("Conv", x, w, b), 6, parameters=shared)

    def otherwise(body: Scope) -> str:
        return body.bn(body.op("Conv", x, w, b), 6)

    net.output(if_node(net, net, then, otherwise))


@fold("an outer Conv with BN, and its raw weight in a branch", vary={"value": (True, False)})
def if_shares_weight(net: Net, value: bool) -> None:
    x, w = net.input(), net.weight(4, 4, 3, 3)
    condition(net, value=value)
    y = net.op("Relu", net.bn(net.op("Conv", x, w, pads=[1] * 4), 4))

    def then(body: Scope) -> str:
        return body.op("Conv", y, w)

    net.output(if_node(net, net, then, lambda b: b.conv(y, 4, 4)))


@fold("both branches name their weight alike, each its own", vary={"value": (True, False)})
def if_same_names(net: Net, value: bool) -> None:
    x = net.input()
    condition(net, value=value)

    def branch(body: Scope) -> str:
        w = body.const(body.random(6, 4, 3, 3), "weight")
        return body.bn(body.op("Conv", x, w), 6)

    net.output(if_node(net, net, branch, branch))


@fold("the constants are Constant nodes of the outer graph")
def if_outer_constant_nodes(net: Net) -> None:
    x = net.input()
    condition(net)
    w = net.const(net.random(6, 4, 3, 3), node=True)
    y = if_node(net, net, lambda b: b.bn(b.op("Conv", x, w), 6), lambda b: b.conv(x, 4, 6))
    net.output(y)


@fold("BN in front of a Conv, in a branch; t = sum over taps")
def if_bn_conv(net: Net) -> None:
    x = net.input()
    condition(net)
    y = if_node(net, net, lambda b: b.conv(b.bn(x, 4), 4, 6), lambda b: b.conv(x, 4, 6))
    net.output(y)


@fold("If in If", vary={"value": (True, False)})
def if_nested(net: Net, value: bool) -> None:
    x, w = net.input(), net.weight(6, 4, 3, 3)
    condition(net, value=value)

    def inner(body: Scope) -> str:
        return if_node(
            net, body,
            lambda b: b.bn(b.op("Conv", x, w), 6),
            lambda b: b.bn(b.op("Conv", x, w), 6),
        )  # fmt: skip

    net.output(if_node(net, net, inner, lambda b: b.bn(b.op("Conv", x, w), 6)))


@fold("a loop's body, Conv and BN on the carried tensor, weights outside")
def loop_conv_bn(net: Net) -> None:
    x, w = net.input(), net.const(net.random(4, 4, 3, 3) * np.float32(0.2))
    body = net.body()
    body.input("i", (), np.int64)
    body.input("keep_going", (), np.bool_)
    body.input("state", (2, 4, 6, 6))
    y = body.op("Conv", "state", w, pads=[1] * 4)
    y = body.op("Tanh", body.bn(y, 4))
    body.output(body.op("Identity", "keep_going"), np.bool_, ())
    body.output(y, shape=(2, 4, 6, 6))
    trips, go = net.const(np.int64(3)), net.const(np.bool_(1))
    net.output(net.op("Loop", trips, go, x, body=body.graph("body")), shape=(2, 4, 6, 6))


@fold("scan output: Gemm and BN in each step")
def scan_gemm_bn(net: Net) -> None:
    sequence = net.input("x", (5, 3, 4))
    state = net.input("h", (3, 6))
    body = net.body()
    body.input("state", (3, 6))
    body.input("element", (3, 4))
    y = body.op("Gemm", "element", body.weight(4, 6), body.weight(6))
    y = body.op("Tanh", body.op("Add", body.op("Tanh", body.bn(y, 6)), "state"))
    body.output(y, shape=(3, 6))
    body.output(body.op("Identity", y), shape=(3, 6))
    final, steps = net.op(
        "Scan", state, sequence, out=2, num_scan_inputs=1, body=body.graph("body")
    )
    net.output(final)
    net.output(steps)


@fold("If in Loop")
def if_in_loop(net: Net) -> None:
    x, w = net.input(), net.const(net.random(4, 4, 1, 1) * np.float32(0.3))
    condition(net)
    body = net.body()
    body.input("i", (), np.int64)
    body.input("keep_going", (), np.bool_)
    body.input("state", (2, 4, 6, 6))
    y = if_node(
        net, body,
        lambda b: b.op("Tanh", b.bn(b.op("Conv", "state", w), 4)),
        lambda b: b.op("Identity", "state"),
    )  # fmt: skip
    body.output(body.op("Identity", "keep_going"), np.bool_, ())
    body.output(y, shape=(2, 4, 6, 6))
    trips, go = net.const(np.int64(3)), net.const(np.bool_(1))
    net.output(net.op("Loop", trips, go, x, body=body.graph("body")), shape=(2, 4, 6, 6))


@fold("a decomposed BN in a branch", residue=("Mul", "Add", "Sub", "Div"))
def if_decomposed(net: Net) -> None:
    x = net.input()
    condition(net)

    def then(body: Scope) -> str:
        y = body.op("Mul", body.conv(x, 4, 6), body.weight(6, 1, 1))
        return body.op("Add", y, body.weight(6, 1, 1))

    net.output(if_node(net, net, then, lambda b: b.conv(x, 4, 6)))


@keep("a branch captures the Conv's output", vary={"value": (True, False)})
def if_captures_conv(net: Net, value: bool) -> None:
    y = net.conv(net.input(), 4, 6)
    condition(net, value=value)
    z = net.op("Relu", net.bn(y, 6))
    w = if_node(net, net, lambda b: b.op("Sigmoid", y), lambda b: b.op("Tanh", z))
    net.output(net.op("Add", z, w))


@keep("a branch inside a branch captures it")
def if_captures_conv_deeply(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    condition(net)
    z = net.op("Relu", net.bn(y, 6))

    def inner(body: Scope) -> str:
        return if_node(net, body, lambda b: b.op("Sigmoid", y), lambda b: b.op("Neg", z))

    net.output(if_node(net, net, inner, lambda b: b.op("Exp", z)))


@keep(
    "the BN in the branch is the captured Conv's, which the other branch reads raw",
    vary={"value": (True, False)},
)
def if_bn_of_captured_conv(net: Net, value: bool) -> None:
    y = net.conv(net.input(), 4, 6)
    condition(net, value=value)
    z = if_node(net, net, lambda b: b.op("Relu", b.bn(y, 6)), lambda b: b.op("Sigmoid", y))
    net.output(z)


@keep("a BN in front of a Conv, captured by a branch")
def if_captures_bn(net: Net) -> None:
    y = net.bn(net.input(), 4)
    condition(net)
    z = net.conv(y, 4, 4, 1)
    w = if_node(net, net, lambda b: b.op("Sigmoid", y), lambda b: b.op("Neg", z))
    net.output(net.op("Add", z, w))


@keep("the weight is carried by the loop: another one in every step")
def loop_carries_weight(net: Net) -> None:
    x = net.input()
    body = net.body()
    body.input("i", (), np.int64)
    body.input("keep_going", (), np.bool_)
    body.input("state", (2, 4, 6, 6))
    body.input("w", (4, 4, 1, 1))
    y = body.op("Tanh", body.bn(body.op("Conv", "state", "w"), 4))
    body.output(body.op("Identity", "keep_going"), np.bool_, ())
    body.output(y, shape=(2, 4, 6, 6))
    body.output(body.op("Mul", "w", body.const(np.float32(-0.5))), shape=(4, 4, 1, 1))
    trips, go = net.const(np.int64(3)), net.const(np.bool_(1))
    y, _ = net.op("Loop", trips, go, x, net.weight(4, 4, 1, 1), out=2, body=body.graph("body"))
    net.output(y, shape=(2, 4, 6, 6))


@keep("the body's output is the Conv's, besides the BN's")
def loop_outputs_conv(net: Net) -> None:
    x = net.input()
    body = net.body()
    body.input("i", (), np.int64)
    body.input("keep_going", (), np.bool_)
    body.input("state", (2, 4, 6, 6))
    y = body.conv("state", 4, 4, 1)
    z = body.op("Tanh", body.bn(y, 4))
    body.output(body.op("Identity", "keep_going"), np.bool_, ())
    body.output(z, shape=(2, 4, 6, 6))
    body.output(y, shape=(2, 4, 6, 6))
    trips, go = net.const(np.int64(2)), net.const(np.bool_(1))
    final, steps = net.op("Loop", trips, go, x, out=2, body=body.graph("body"))
    net.output(final, shape=(2, 4, 6, 6))
    net.output(steps, shape=(None, 2, 4, 6, 6))


@keep("the BN's statistics are the scan's elements")
def scan_statistics(net: Net) -> None:
    state, means = net.input("h", (3, 6)), net.input("m", (5, 6))
    body = net.body()
    body.input("state", (3, 6))
    body.input("mean", (6,))
    y = body.op("Gemm", "state", body.const(body.random(6, 6) * np.float32(0.3)))
    scale, B, _, var = body.statistics(6)
    y = body.op("Tanh", body.bn(y, 6, parameters=(scale, B, "mean", var)))
    body.output(y, shape=(3, 6))
    net.output(net.op("Scan", state, means, num_scan_inputs=1, body=body.graph("body")))


@keep("the body returns the BN's input unchanged as well, under the BN's own output", left=1)
def if_returns_the_bn_input(net: Net) -> None:
    x = net.input()
    condition(net)
    graphs = []
    for name in ("then", "else"):
        body = net.body()
        y = body.conv(x, 4, 6)
        z = body.bn(y, 6) if name == "then" else body.op("Relu", y)
        body.output(body.op("Relu", z))
        body.output(y)
        graphs.append(body.graph(name))
    for output in net.op("If", "cond", then_branch=graphs[0], else_branch=graphs[1], out=2):
        net.output(output, shape=(2, 6, 4, 4))


@fold("names of the body's own value_info go with what they describe")
def if_value_info(net: Net) -> None:
    x = net.input()
    condition(net)
    graphs = []
    for name in ("then", "else"):
        body = net.body()
        y = body.conv(x, 4, 6)
        body.output(body.bn(y, 6), shape=(2, 6, 4, 4))
        graph = body.graph(name)
        graph.value_info.append(helper.make_tensor_value_info(y, 1, (2, 6, 4, 4)))
        graphs.append(graph)
    net.output(net.op("If", "cond", then_branch=graphs[0], else_branch=graphs[1]))


@fold(
    "what a branch captures is the BN's output, which keeps its name", vary={"value": (True, False)}
)
def if_captures_folded_bn(net: Net, value: bool) -> None:
    y = net.bn(net.conv(net.input(), 4, 6), 6)
    condition(net, value=value)
    z = if_node(net, net, lambda b: b.op("Sigmoid", y), lambda b: b.op("Tanh", y))
    net.output(net.op("Add", y, z))


@fold("the body's constants are Constant nodes of its own")
def if_constant_nodes(net: Net) -> None:
    x = net.input()
    condition(net)

    def branch(body: Scope) -> str:
        body.constants_as_nodes = True
        return body.bn(body.conv(x, 4, 6), 6)

    net.output(if_node(net, net, branch, branch))


@fold("the body's weights are in a file", external=True)
def if_external_data(net: Net) -> None:
    x = net.input()
    condition(net)
    y = if_node(net, net, lambda b: b.bn(b.conv(x, 4, 6), 6), lambda b: b.conv(x, 4, 6))
    net.output(y)


@keep("each branch has another BN for one Conv outside", left=2, vary={"value": (True, False)})
def if_two_bns_of_captured_conv(net: Net, value: bool) -> None:
    y = net.conv(net.input(), 4, 6)
    condition(net, value=value)
    net.output(if_node(net, net, lambda b: b.bn(y, 6), lambda b: b.bn(y, 6)))

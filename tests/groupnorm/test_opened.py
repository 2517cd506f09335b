"""Statistics of normalizations that the runtime does not show: in bodies, and in functions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.swapping import run_ort

from normswap.graph.build import build_network
from normswap.graph.evaluate import constant_source
from normswap.graph.reasons import Reason
from normswap.model import load
from normswap.workflows.recalibrate import recalibrate

C = 4


def info(name, shape=None, elem_type=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, elem_type, shape)


def statistics(model):
    """Return mean and variance by node, wherever a node is; as a function's calls hand them in."""
    network = build_network(load(model.SerializeToString()))
    found = {}
    calls = {}
    for node in network.nodes():
        calls.setdefault(f"{node.domain}:{node.op}", []).append(node)
    for node in network.nodes():
        if node.op != "BatchNormalization":
            continue
        body = node.graph
        for call in calls.get(body.path, [] if ":" in body.path else [None]):
            pair = []
            for value in node.inputs[3:5]:
                outer = call.inputs[body.inputs.index(value)] if value in body.inputs else value
                pair.append(constant_source(outer).load().astype(np.float64))
            found[node.name + (f"/{call.name}" if call else "")] = tuple(pair)
    return found


def linear(x, weight):
    """What a MatMul makes of samples, by channel."""
    return (x.astype(np.float64) @ weight.astype(np.float64)).reshape(-1, weight.shape[1]).T


def normalized(y, pair, affine, epsilon=1e-3):
    (mean, var), (scale, bias) = pair, affine
    return (y - mean[:, None]) / np.sqrt(var + epsilon)[:, None] * scale[:, None] + bias[:, None]


def close(found, y):
    np.testing.assert_allclose(found[0], y.mean(axis=1), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(found[1], y.var(axis=1), rtol=2e-5)


class Net(Builder):
    """Layers of a MatMul and a BatchNormalization each."""

    def __init__(self, opset=17):
        super().__init__(opset, seed=3)
        self.weights = {}
        self.affines = {}

    def layer(self, x, name, *, given=None, **attrs):
        c_in = C if self.weights else 3
        weight = self.rng.normal(size=(c_in, C)).astype(np.float32)
        stats = [v.astype(np.float32) for v in self.statistics(C, positive=True)]
        self.weights[name], self.affines[name] = weight, stats[:2]
        names = given or [self.const(v) for v in stats]
        y = self.node("MatMul", x, self.const(weight))
        return self.node("BatchNormalization", y, *names, name=name, epsilon=1e-3, **attrs)

    def body(self, build, inputs=(), own=False):
        """Return a graph of what a function builds, its constants inside if they are to be."""
        nodes, constants = self.nodes, self.initializers
        self.nodes = []
        self.initializers = [] if own else constants
        outputs = build()
        graph = helper.make_graph(
            self.nodes,
            "body",
            [info(*item) for item in inputs],
            [info(*item) if isinstance(item, tuple) else info(item) for item in outputs],
            self.initializers if own else [],
        )
        self.nodes, self.initializers = nodes, constants
        return graph


DATA = np.random.default_rng(1).normal(1, 2, (24, 3)).astype(np.float32)
BATCHES = [DATA[:10], DATA[10:11], DATA[11:]]


@pytest.mark.parametrize(
    ("own", "taken", "opset"),
    [
        *[(own, taken, 17) for own in (False, True) for taken in ("then", "else", "both")],
        (False, "both", 9),
        (True, "both", 21),
    ],
)
def test_branches(own, taken, opset):
    net = Net(opset)
    x, flag = net.input("N", 3), net.input(name="flag", elem_type=TensorProto.BOOL)
    first = net.layer(x, "before")

    def then():
        y = net.layer(net.layer(first, "inner"), "deeper")
        return [net.node("Identity", y)]

    branches = {
        "then_branch": net.body(then, own=own),
        "else_branch": net.body(lambda: [net.layer(first, "other")], own=own),
    }
    y = net.node("If", flag, **branches)
    net.output(net.layer(y, "behind"), None)
    model = net.model()
    flags = {"then": [True] * 3, "else": [False] * 3, "both": [True, False, True]}[taken]
    feeds = [{"x": x, "flag": np.array(f)} for x, f in zip(BATCHES, flags, strict=True)]
    result = recalibrate(model, feeds)
    new, old = statistics(result.model), statistics(model)
    ys = {"before": linear(DATA, net.weights["before"])}
    close(new["before"], ys["before"])
    x_of = {True: [], False: []}
    for x, f in zip(BATCHES, flags, strict=True):
        y = normalized(linear(x, net.weights["before"]), new["before"], net.affines["before"])
        x_of[f].append(y.T)
    kept = {entry.site.node for entry in result.report.untouched}
    outs = []
    if taken != "else":
        y = linear(np.concatenate(x_of[True]), net.weights["inner"])
        close(new["inner"], y)
        y = linear(normalized(y, new["inner"], net.affines["inner"]).T, net.weights["deeper"])
        close(new["deeper"], y)
        outs.append(normalized(y, new["deeper"], net.affines["deeper"]).T)
    if taken != "then":
        y = linear(np.concatenate(x_of[False]), net.weights["other"])
        close(new["other"], y)
        outs.append(normalized(y, new["other"], net.affines["other"]).T)
    close(new["behind"], linear(np.concatenate(outs), net.weights["behind"]))
    assert kept == {"then": {"other"}, "else": {"inner", "deeper"}, "both": set()}[taken]
    for name in kept:
        assert np.array_equal(old[name], new[name])
    assert {entry.reason for entry in result.report.untouched} <= {Reason.NO_ESTIMATE}


SEQUENCE = np.random.default_rng(2).normal(1, 2, (9, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("axes", [None, [1]])
def test_scan(axes):
    """Each step of a sequence goes through two layers of its own."""
    net = Net()
    x = net.input(5 if axes is None else "N", "N" if axes is None else 5, 3)

    def step():
        y = net.layer(net.layer("slice", "one"), "two")
        return [(net.node("Relu", y), ("N", C))]

    body = net.body(step, [("slice", ("N", 3))])
    attrs = {} if axes is None else {"scan_input_axes": axes, "scan_output_axes": axes}
    y = net.node("Scan", x, body=body, num_scan_inputs=1, **attrs)
    net.output(y, None)
    data = SEQUENCE if axes else SEQUENCE.transpose(1, 0, 2)
    parts = [data[:4], data[4:]] if axes else [data[:, :4], data[:, 4:]]
    new = statistics(recalibrate(net.model(), [{"x": part} for part in parts]).model)
    y = linear(data.reshape(-1, 3), net.weights["one"])
    close(new["one"], y)
    close(new["two"], linear(normalized(y, new["one"], net.affines["one"]).T, net.weights["two"]))


def test_loop_with_a_branch_in_it():
    """Turns are independent of each other; half of them take the branch with the layer."""
    net = Net()
    x = net.input("N", 3)
    trips, go = net.const(np.array(4)), net.const(np.array(True))
    two = net.const(np.array(2))

    def turn():
        shifted = net.node("Add", x, net.node("Cast", "i", to=TensorProto.FLOAT))
        odd = net.node("Cast", net.node("Mod", "i", two), to=TensorProto.BOOL)
        flag = net.node("Identity", "c")
        branches = {
            "then_branch": net.body(lambda: [net.layer(shifted, "inner")]),
            "else_branch": net.body(lambda: [net.node("MatMul", shifted, net.normal(3, C))]),
        }
        y = net.node("If", odd, **branches)
        return [(flag, (), TensorProto.BOOL), (y, None)]

    inputs = [("i", (), TensorProto.INT64), ("c", (), TensorProto.BOOL)]
    body = net.body(turn, inputs)
    net.output(net.node("Loop", trips, go, body=body), None)
    model = net.model()
    new = statistics(recalibrate(model, [{"x": x} for x in BATCHES]).model)
    seen = np.concatenate([DATA + 1, DATA + 3])
    close(new["inner"], linear(seen, net.weights["inner"]))


def test_loop_whose_turns_go_on_with_what_the_last_one_made():
    """The statistics reproduce themselves: they are those of all turns."""
    net = Net()
    x = net.input("N", 3)
    y = net.node("MatMul", x, net.normal(3, C))
    trips, go = net.const(np.array(3)), net.const(np.array(True))
    net.weights["x"] = None

    def turn():
        z = net.node("Add", net.node("Relu", net.layer("state", "inner")), "state")
        return [(net.node("Identity", "c"), (), TensorProto.BOOL), (z, ("N", C))]

    inputs = [("i", (), TensorProto.INT64), ("c", (), TensorProto.BOOL), ("state", ("N", C))]
    net.output(net.node("Loop", trips, go, y, body=net.body(turn, inputs)), ("N", C))
    model = with_functions(net)
    result = recalibrate(model, [{"x": x} for x in BATCHES])
    assert not result.report.untouched
    new = statistics(result.model)["inner"]
    state, seen = linear(DATA, numpy_helper.to_array(model.graph.initializer[0])), []
    for _ in range(3):
        z = linear(state.T, net.weights["inner"])
        seen.append(z)
        state = state + np.maximum(normalized(z, new, net.affines["inner"]), 0)
    whole = np.concatenate(seen, axis=1)
    np.testing.assert_allclose(new[0], whole.mean(axis=1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(new[1], whole.var(axis=1), rtol=1e-3)


# --- functions ------------------------------------------------------------------------


def function(name, nodes, inputs, output):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, inputs, [output], nodes, opsets)


def with_functions(net, *functions):
    net.functions.extend(functions)
    net.extra_opsets = [helper.make_opsetid("local", 1)]
    model = helper.make_model(
        helper.make_graph(net.nodes, "g", net.inputs, net.outputs, net.initializers),
        opset_imports=[helper.make_opsetid("", 17), *net.extra_opsets],
        functions=net.functions,
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model


PARAMETERS = ["scale", "B", "mean", "var"]


def norm_function():
    node = helper.make_node(
        "BatchNormalization", ["X", *PARAMETERS], ["n"], name="bn", epsilon=1e-3
    )
    relu = helper.make_node("Relu", ["n"], ["Y"])
    return function("Norm", [node, relu], ["X", *PARAMETERS], "Y")


def call(net, x, stats, name):
    return net.node("Norm", x, *stats, domain="local", name=name)


@pytest.mark.parametrize("nested", [False, True])
def test_a_function_is_as_many_layers_as_it_is_handed_statistics(nested):
    net = Net()
    x = net.input("N", 3)
    stats = {
        name: [
            net.const(value, name=f"{name}_{what}")
            for value, what in zip(net.statistics(C), "sbmv", strict=True)
        ]
        for name in ("one", "two")
    }
    weights = [net.rng.normal(size=s).astype(np.float32) for s in ((3, C), (C, C))]
    y = call(net, net.node("MatMul", x, net.const(weights[0])), stats["one"], "one")
    y = call(net, net.node("MatMul", y, net.const(weights[1])), stats["two"], "two")
    net.output(y, ["N", C])
    functions = [norm_function()]
    if nested:
        outer = function("Outer", list(net.nodes), ["x", *[t.name for t in net.initializers]], y)
        net.nodes[:] = [
            helper.make_node(
                "Outer",
                ["x", *[t.name for t in net.initializers]],
                ["out"],
                domain="local",
                name="outer",
            )
        ]
        net.outputs[:] = [info("out", ["N", C])]
        functions.append(outer)
    model = with_functions(net, *functions)
    result = recalibrate(model, [{"x": x} for x in BATCHES])
    assert len(result.report.layers) == 2
    tensors = result.model.graph.initializer
    assert [t.name for t in tensors] == [t.name for t in model.graph.initializer]
    new = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in tensors}
    y = linear(DATA, weights[0])
    close((new["one_m"], new["one_v"]), y)
    pair, affine = (new["one_m"], new["one_v"]), (new["one_s"], new["one_b"])
    y = np.maximum(normalized(y, pair, affine), 0)
    close((new["two_m"], new["two_v"]), linear(y.T, weights[1]))


def test_calls_with_the_same_statistics_are_one_layer():
    net = Net()
    x, z = net.input("N", 3), net.input("N", 3, name="z")
    stats = [net.const(v) for v in net.statistics(C)]
    weight = net.rng.normal(size=(3, C)).astype(np.float32)
    shared = net.const(weight)
    ys = [call(net, net.node("MatMul", v, shared), stats, f"call_{v}") for v in (x, z)]
    net.output(net.node("Sub", *ys), ["N", C])
    model = with_functions(net, norm_function())
    result = recalibrate(model, {"x": DATA, "z": DATA * 3 - 1})
    assert len(result.report.layers) == 1
    both = np.concatenate([DATA, DATA * 3 - 1])
    for pair in statistics(result.model).values():
        close(pair, linear(both, weight))
    assert not run_ort(result.model, x=DATA, z=DATA)[0].any()


def test_statistics_inside_a_function_and_freezing_there():
    """Constants of the body, the node in training mode; called twice, which is one layer."""
    net = Net()
    x = net.input("N", 3)
    weight = net.rng.normal(size=(3, C)).astype(np.float32)
    values = [v.astype(np.float32) for v in net.statistics(C)]
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in zip(PARAMETERS, values, strict=True)
    ]
    node = helper.make_node(
        "BatchNormalization",
        ["X", *PARAMETERS],
        ["Y", "m", "v"],
        name="bn",
        epsilon=1e-3,
        training_mode=1,
    )
    made = function("Norm", [*constants, node], ["X"], "Y")
    y = net.node("MatMul", x, net.const(weight))
    ys = [net.node("Norm", v, domain="local") for v in (y, net.node("Neg", y))]
    net.output(net.node("Sub", *ys), ["N", C])
    model = with_functions(net, made)
    result = recalibrate(model, {"x": DATA}, freeze=True).model
    bn = next(n for n in result.functions[0].node if n.op_type == "BatchNormalization")
    assert len(bn.output) == 1
    assert "training_mode" not in [a.name for a in bn.attribute]
    y = linear(DATA, weight)
    for pair in statistics(result).values():
        close(pair, np.concatenate([y, -y], axis=1))
    as_they_were = recalibrate(model, freeze=True).model
    bn = next(n for n in as_they_were.functions[0].node if n.op_type == "BatchNormalization")
    assert len(bn.output) == 1
    for mean, var in statistics(as_they_were).values():
        assert np.array_equal(mean, values[2].astype(np.float64))
        assert np.array_equal(var, values[3].astype(np.float64))


def test_a_function_that_nobody_calls():
    net = Net()
    x = net.input("N", 3)
    net.output(net.layer(x, "bn0"), ["N", C])
    model = with_functions(net, norm_function())
    result = recalibrate(model, {"x": DATA})
    (kept,) = result.report.untouched
    assert (kept.reason, kept.detail) == (
        Reason.NO_ESTIMATE,
        "nothing calls the function that it is in",
    )
    close(statistics(result.model)["bn0"], linear(DATA, net.weights["bn0"]))


# --- normalizations that stay in training mode ----------------------------------------


@pytest.mark.parametrize("opset", [9, 13, 17])
@pytest.mark.parametrize("shared", [False, True])
def test_what_stays_in_training_mode_normalizes_by_its_batch(opset, shared):
    """The runtime has no such mode before opset 14, and errs where initializers are shared."""
    b = Builder(opset, seed=3)
    x = b.input(2, 3, 6, 6)
    y = b.node("Reshape", x, b.const(np.array([1, 6, 6, 6])))
    one, zero = b.const(np.ones(6)), b.const(np.zeros(6))
    stats = [zero, one] if shared else [b.normal(6), b.const(np.full(6, 3.0))]
    attrs = {"training_mode": 1} if opset >= 14 else {}
    outputs = 3 if opset >= 14 else 5
    given = [y, one, zero, *stats]
    y = b.node("BatchNormalization", *given, outputs=outputs, name="instance", **attrs)[0]
    y = b.node("Reshape", y, b.const(np.array([2, 3, 6, 6])))
    y = b.bn(b.node("Relu", y), 3, name="bn", epsilon=1e-3)
    b.output(y, None)
    data = np.random.default_rng(0).normal(3, 2, (8, 3, 6, 6)).astype(np.float32)
    result = recalibrate(b.model(), {"x": data})
    assert [entry.site.node for entry in result.report.untouched] == ["instance"]
    wide = data.astype(np.float64)
    mean, var = (f(wide, axis=(2, 3), keepdims=True) for f in (np.mean, np.var))
    seen = np.maximum((wide - mean) / np.sqrt(var + 1e-5), 0)
    new = statistics(result.model)["bn"]
    np.testing.assert_allclose(new[0], seen.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(new[1], seen.var(axis=(0, 2, 3)), rtol=1e-5)

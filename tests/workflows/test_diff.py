"""What changed between two models: found, told once, and not told where nothing did."""

import copy

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.build import Builder
from support.cli import invoke

import normswap

C = 4


def network():
    b = Builder(17)
    x = b.conv(b.input("N", 3, 8, 8), 3, C, name="first", pads=[1] * 4)
    x = b.bn(x, C, name="norm", positive=True)
    x = b.node("Relu", x, name="bend")
    x = b.conv(x, C, C, name="second", pads=[1] * 4)
    x = b.node("Add", x, b.node("Sigmoid", x, name="gate"), name="sum")
    b.output(b.node("Flatten", x, name="flat", out="y"))
    return b.model()


def node_of(model, name):
    return next(node for node in model.graph.node if node.name == name)


def changed(edit):
    before = network()
    after = copy.deepcopy(before)
    edit(after)
    return normswap.diff(before, after)


def names(told):
    return [each.split()[-1] for each in told]


def test_the_same_is_the_same():
    report = changed(lambda model: None)
    assert (report.differs, report.same_function, report.nodes) == (False, True, 7)
    parts = (report.gone, report.new, report.changed, report.constants, report.renamed)
    assert not any(parts)


def test_other_names_are_no_other_model():
    before, after = network(), network()
    old = {tensor.name: tensor.name for tensor in after.graph.initializer}
    for number, name in enumerate(old):
        old[name] = f"w_{number}"
    for tensor in after.graph.initializer:
        tensor.name = old[tensor.name]
    for node in after.graph.node:
        node.name = f"other {node.name}"
        node.input[:] = [old.get(name, f"t {name}") for name in node.input]
        node.output[:] = [f"t {name}" for name in node.output]
    for port in (*after.graph.input, *after.graph.output):
        port.name = f"t {port.name}"
    report = normswap.diff(before, after)
    assert (report.differs, report.same_function, report.nodes) == (False, True, 7)
    kinds = {kind: [r for r in report.renamed if r.kind == kind] for kind in ("input", "output")}
    assert [(r.before, r.after) for r in kinds["input"]] == [("x", "t x")]
    assert [(r.before, r.after) for r in kinds["output"]] == [("y", "t y")]
    nodes = {(r.before, r.after) for r in report.renamed if r.kind == "node"}
    assert ("Conv first", "Conv other first") in nodes
    assert len(nodes) == 7


def test_a_weight_of_other_values():
    def edit(model):
        weight = model.graph.initializer[0]
        values = numpy_helper.to_array(weight).copy()
        values[1, 2, 0, 0] += 0.25
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    report = changed(edit)
    (change,) = report.constants
    assert (change.changed, change.elements, change.read_by) == (1, C * 27, "Conv first")
    assert change.max_change == pytest.approx(0.25, rel=1e-6)
    assert not any((report.gone, report.new, report.changed, report.renamed))
    assert (report.nodes, report.same_function, int(report.exit_code)) == (6, False, 1)


def test_an_attribute():
    def edit(model):
        conv = node_of(model, "second")
        conv.attribute.append(helper.make_attribute("dilations", [1, 1]))  # says nothing
        next(a for a in conv.attribute if a.name == "pads").ints[:] = [2, 2, 2, 2]
        conv.attribute.append(helper.make_attribute("strides", [2, 2]))

    (change,) = changed(edit).changed
    told = {each.name: (each.before, each.after) for each in change.attributes}
    assert told == {"pads": ("[1, 1, 1, 1]", "[2, 2, 2, 2]"), "strides": ("", "[2, 2]")}


def test_a_node_that_is_gone_is_told_once():
    def edit(model):
        norm, bend = node_of(model, "norm"), node_of(model, "bend")
        bend.input[0] = norm.input[0]
        model.graph.node.remove(norm)

    report = changed(edit)
    assert (names(report.gone), report.new, report.changed) == (["norm"], (), ())
    assert report.nodes == 6


def test_a_node_that_is_new_is_told_once_whatever_the_names():
    def edit(model):
        conv = node_of(model, "first")
        model.graph.node.insert(0, helper.make_node("Neg", ["x"], ["negated"], "turned"))
        conv.input[0] = "negated"
        for node in model.graph.node[1:]:
            node.name = f"other {node.name}"

    report = changed(edit)
    assert (names(report.new), report.gone, report.changed) == (["turned"], (), ())
    assert len([r for r in report.renamed if r.kind == "node"]) == 7


def test_a_reader_of_something_else():
    def edit(model):
        gate = node_of(model, "gate")
        gate.input[0] = node_of(model, "bend").output[0]

    bent, summed = (node_of(network(), name).output[0] for name in ("bend", "second"))
    (change,) = changed(edit).changed
    assert change.after == "Sigmoid gate"
    assert change.inputs == (f"input 0 is now {bent}, and was {summed}",)


def test_a_twin_that_is_merged_is_gone_and_its_reader_reads_the_same():
    def model(*, twins):
        b = Builder(17)
        x = b.input(1, C)
        first = b.node("Sigmoid", x, name="one")
        second = b.node("Sigmoid", x, name="other") if twins else first
        y = b.node("LeakyRelu", second, alpha=0.1 if twins else 0.2, name="bend")
        b.output(b.node("Add", y, b.node("Neg", first), name="sum", out="y"))
        return b.model()

    report = normswap.diff(model(twins=True), model(twins=False))
    assert (names(report.gone), report.new) == (["other"], ())
    (change,) = report.changed
    assert (change.after, change.inputs, change.attributes[0].name) == (
        "LeakyRelu bend",
        (),
        "alpha",
    )


def test_an_operator_in_the_place_of_another():
    def edit(model):
        node_of(model, "bend").op_type = "Tanh"

    report = changed(edit)
    assert (report.gone, report.new) == (("Relu bend",), ("Tanh bend",))
    assert report.changed == ()


def test_the_head_and_the_interface():
    def edit(model):
        model.producer_name, model.producer_version = "someone", "2"
        model.opset_import[0].version = 18
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    report = changed(edit)
    assert {each.name: each.after for each in report.head} == {
        "opset ai.onnx": "18",
        "exporter": "someone 2",
    }
    (port,) = report.interface
    assert (port.name, port.after) == ("input x", "tensor float32[1,3,8,8]")
    assert report.same_function


def test_branches_are_looked_into():
    def model(scale):
        b = Builder(17)
        bodies = []
        for op in ("Relu", "Sigmoid"):
            inner = Builder(17)
            inner.count = 100
            constant = inner.const(np.full(3, scale), name=f"{op} scale")
            inner.output(inner.node(op, inner.node("Mul", "x", constant, name=f"{op} mul")), (2, 3))
            bodies.append(helper.make_graph(inner.nodes, op, [], inner.outputs, inner.initializers))
        b.input(2, 3)
        flag = b.input(name="flag", elem_type=onnx.TensorProto.BOOL)
        b.output(
            b.node("If", flag, then_branch=bodies[0], else_branch=bodies[1], name="if", out="y")
        )
        return b.model()

    report = normswap.diff(model(1.5), model(2.5))
    assert [each.read_by for each in report.constants] == [
        "Mul Relu mul in then_branch of If if",
        "Mul Sigmoid mul in else_branch of If if",
    ]
    assert {each.max_change for each in report.constants} == {1.0}
    assert not any((report.gone, report.new, report.changed))


def test_two_models_that_have_nothing_in_common():
    b = Builder(17)
    b.output(b.node("MatMul", b.input(2, 5, name="rows"), b.normal(5, 7), out="scores"))
    report = normswap.diff(network(), b.model())
    assert (len(report.gone), len(report.new), report.nodes) == (7, 1, 0)
    assert {each.name for each in report.interface} == {
        *("input x", "input rows", "output y", "output scores")
    }


def test_a_fold_is_told_as_one():
    report = normswap.diff(network(), normswap.fold(network(), check=None).model)
    assert (names(report.gone), report.new, report.changed) == (["norm"], (), ())
    assert {each.read_by for each in report.constants} == {"Conv first"}


@pytest.mark.parametrize("form", ["text", "markdown", "junit", "github"])
def test_the_command(tmp_path, form):
    before, after = network(), network()
    node_of(after, "bend").op_type = "Tanh"
    for name, model in (("a", before), ("b", after)):
        onnx.save(model, tmp_path / f"{name}.onnx")
    paths = [str(tmp_path / f"{name}.onnx") for name in "ab"]
    result = invoke("diff", *paths, "--output", form)
    assert result.code == 1
    for word in ("Relu bend", "Tanh bend"):
        assert word in result.text
    same = invoke("diff", paths[0], paths[0])
    assert (same.code, "the same operators on the same constants: 7 nodes" in same.text) == (
        0,
        True,
    )
    piped = invoke("diff", "-", paths[0], stdin=before.SerializeToString())
    assert piped.code == 0
    assert invoke("diff", "-", "-", stdin=b"").code == 2

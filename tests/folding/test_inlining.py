"""Functions that a route goes across: a Conv in one, and what normalizes it in another."""

import numpy as np
import pytest
from onnx import AttributeProto, helper
from support.build import Builder
from support.drafts import picture
from support.folding import check_kept, fold_model
from support.functions import Body, folds, names

from normswap.folding import inlining
from normswap.folding.draft import Draft
from normswap.folding.functions import Library
from normswap.graph.build import build_network
from normswap.graph.reasons import Reason
from normswap.model import load

INTS, FLOAT = AttributeProto.INTS, AttributeProto.FLOAT


def modules(b):
    """What torch's modules are as functions: their parameters are arguments."""
    f = Body(b, "Conv2d", ["x", "w", "b"], attributes=["pads"])
    f.returns(f.node("Conv", "x", "w", "b", refers={"pads": ("pads", INTS)}))
    f = Body(b, "BatchNorm2d", ["x", "scale", "B", "mean", "var"], attributes=["eps"])
    refers = {"epsilon": ("eps", FLOAT)}
    f.returns(f.node("BatchNormalization", "x", "scale", "B", "mean", "var", refers=refers))
    f = Body(b, "ReLU", ["x"])
    f.returns(f.node("Relu", "x"))


def conv(b, x, c_in, c_out, *, by=None, **options):
    make = by or b
    arguments = (x, b.normal(c_out, c_in, 3, 3), b.normal(c_out))
    return make.node("Conv2d", *arguments, domain="local", pads=[1] * 4, **options)


def bn(b, x, channels, **options):
    given = [b.const(vector) for vector in b.statistics(channels)]
    return b.node("BatchNorm2d", x, *given, domain="local", eps=0.01, **options)


def relu(b, x):
    return b.node("ReLU", x, domain="local")


def ops(model):
    return [node.op_type for node in model.graph.node]


def test_a_conv_in_one_function_and_its_normalization_in_another():
    b = Builder()
    modules(b)
    b.output(relu(b, bn(b, conv(b, b.input("N", 3, 6, 6), 3, 4), 4)), ("N", 4, 6, 6))
    folded, plan = folds(b)
    assert ops(folded) == ["Conv", "ReLU"]
    assert names(folded) == ["ReLU"]
    assert not plan.kept
    assert plan.folded[0].site.graph == ""


def test_layers_in_a_row_and_one_without_a_normalization():
    b = Builder()
    modules(b)
    y = b.input(2, 3, 6, 6)
    for i in range(3):
        y = relu(b, bn(b, conv(b, y, 4 if i else 3, 4), 4))
    b.output(conv(b, y, 4, 5), (2, 5, 6, 6))
    folded, plan = folds(b)
    assert ops(folded) == ["Conv", "ReLU"] * 3 + ["Conv2d"]  # the last one keeps its call
    assert sorted(names(folded)) == ["Conv2d", "ReLU"]
    assert len(plan.folded) == 3


def test_modules_in_modules():
    b = Builder()
    modules(b)
    arguments = ["x", "w", "b", "scale", "B", "mean", "var"]
    f = Body(b, "Block", arguments)
    y = f.node("Conv2d", "x", "w", "b", domain="local", pads=[1] * 4)
    y = f.node("BatchNorm2d", y, *arguments[3:], domain="local", eps=0.1)
    f.returns(f.node("ReLU", y, domain="local"))
    y = b.input(2, 4, 6, 6)
    for _ in range(2):
        given = [b.normal(4, 4, 3, 3), b.normal(4), *(b.const(v) for v in b.statistics(4))]
        y = b.node("Block", y, *given, domain="local")
    b.output(y, (2, 4, 6, 6))
    folded, plan = folds(b)
    assert ops(folded) == ["Conv", "ReLU"] * 2
    assert len(plan.folded) == 2


def test_a_route_through_a_function_that_is_not_edited():
    b = Builder()
    modules(b)
    y = b.node("Transpose", b.conv(b.input(2, 3, 6, 6), 3, 4), perm=[0, 1, 3, 2])
    f = Body(b, "Turn", ["x"])
    f.returns(f.node("Transpose", "x", perm=[0, 1, 3, 2]))
    b.output(relu(b, bn(b, b.node("Turn", y, domain="local"), 4)), (2, 4, 4, 4))
    folded, plan = folds(b)
    assert len(plan.folded) == 1
    assert "BatchNorm2d" not in ops(folded)


def test_a_linear_layer():
    b = Builder()
    modules(b)
    f = Body(b, "Linear", ["x", "w", "b"])
    f.returns(f.node("Gemm", "x", "w", "b", transB=1))
    y = b.node("Linear", b.input("N", 5), b.normal(4, 5), b.normal(4), domain="local")
    b.output(relu(b, bn(b, y, 4)), ("N", 4))
    folded, _ = folds(b)
    assert ops(folded) == ["Gemm", "ReLU"]


def test_an_output_of_the_graph():
    b = Builder()
    modules(b)
    b.output(bn(b, conv(b, b.input(2, 3, 6, 6), 3, 4), 4), (2, 4, 6, 6))
    folded, _ = folds(b)
    assert ops(folded) == ["Conv"]


def test_a_normalization_outside_of_functions():
    b = Builder()
    modules(b)
    b.output(relu(b, b.bn(conv(b, b.input(2, 3, 6, 6), 3, 4), 4)), (2, 4, 6, 6))
    folded, _ = folds(b, left=1)  # that of a function that nobody calls
    assert ops(folded) == ["Conv", "ReLU"]


def test_a_function_with_a_branch_that_reads_its_argument():
    b = Builder()
    modules(b)
    f = Body(b, "Gate", ["x", "flag"])

    def branch(op):
        out = helper.make_tensor_value_info("gated", 1, None)
        return helper.make_graph([helper.make_node(op, ["x"], ["gated"])], op, [], [out])

    f.returns(f.node("If", "flag", then_branch=branch("Identity"), else_branch=branch("Neg")))
    flag = b.input(name="flag", elem_type=9)
    y = bn(b, conv(b, b.input(2, 3, 6, 6), 3, 4), 4)
    b.output(b.node("Gate", y, flag, domain="local"), (2, 4, 6, 6))
    folded, _ = folds(b)
    assert ops(folded) == ["Conv", "Gate"]


def test_a_function_with_branches_is_inlined():
    b = Builder()
    modules(b)
    f = Body(b, "Gated", ["x", "w", "flag"])

    def branch(op):
        out = helper.make_tensor_value_info("gated", 1, None)
        return helper.make_graph([helper.make_node(op, ["w"], ["gated"])], op, [], [out])

    gate = f.node("If", "flag", then_branch=branch("Identity"), else_branch=branch("Neg"))
    y = f.node("Conv", "x", "w", pads=[1] * 4)
    f.returns(y, f.node("ReduceMax", gate))
    flag, x = b.input(name="flag", elem_type=9), b.input(2, 3, 6, 6)
    y, z = b.node("Gated", x, b.normal(4, 3, 3, 3), flag, domain="local", outputs=2)
    b.output(bn(b, y, 4), (2, 4, 6, 6)).output(z, (1, 1, 1, 1))
    folded, _ = folds(b)
    assert "Conv" in ops(folded)
    assert "BatchNorm2d" not in ops(folded)


def test_what_nothing_comes_of_leaves_the_model_as_it_is():
    b = Builder()
    modules(b)
    y = conv(b, b.input(2, 3, 6, 6), 3, 4)
    b.output(b.node("Tanh", y)).output(b.node("Sigmoid", bn(b, y, 4)), (2, 4, 6, 6))
    b.outputs[0].type.CopyFrom(helper.make_tensor_type_proto(1, (2, 4, 6, 6)))
    model = b.model()
    folded, plan = fold_model(model)
    assert folded == model
    assert [entry.site.graph for entry in plan.kept] == ["local:BatchNorm2d"]


def test_a_function_of_another_opset_stays():
    b = Builder()
    modules(b)
    b.functions[0].opset_import[0].version = 13
    b.output(relu(b, bn(b, conv(b, b.input(2, 3, 6, 6), 3, 4), 4)), (2, 4, 6, 6))
    check_kept(b.model(), Reason.NOT_CONSTANT)


def test_functions_that_expand_beyond_all_bounds_stay(monkeypatch):
    monkeypatch.setattr(inlining, "MOST", 5)
    b = Builder()
    modules(b)
    y = b.input(2, 4, 6, 6)
    for _ in range(4):
        y = relu(b, bn(b, conv(b, y, 4, 4), 4))
    b.output(y, (2, 4, 6, 6))
    model = b.model()
    folded, plan = fold_model(model)
    assert folded == model
    assert not plan.folded


@pytest.mark.parametrize("named", [True, False])
def test_names_collide_with_none(named):
    b = Builder()
    modules(b)
    x = b.input(2, 3, 6, 6)
    halves = [bn(b, conv(b, x, 3, 4), 4) for _ in range(2)]
    b.output(b.node("Mul", *halves), (2, 4, 6, 6))
    for node in b.nodes:
        node.name = node.name if named else ""
    folded, _ = folds(b)
    made = [name for node in folded.graph.node for name in (node.name, *node.output) if name]
    assert len(set(made)) == len(made)
    assert np.all([info.name in made for info in folded.graph.output])


def test_what_is_inlined_can_be_taken_back():
    b = Builder()
    modules(b)
    f = Body(b, "Block", ["x", "w", "b"])
    f.returns(f.node("Conv2d", "x", "w", "b", domain="local", pads=[1] * 4))
    y = b.node("Block", b.input(2, 3, 6, 6), b.normal(4, 3, 3, 3), b.normal(4), domain="local")
    b.output(relu(b, bn(b, y, 4)), (2, 4, 6, 6))
    model = load(b.model().SerializeToString())
    network = build_network(model)
    draft = Draft(network)
    inliner, before = inlining.Inliner(draft, Library(model, network)), picture(network)
    assert inliner.inline(network.graphs[0])
    made = {node.op for node in network.graphs[0].nodes if not node.removed}
    assert made == {"Conv", "BatchNormalization", "Relu"}
    draft.rollback(0)
    assert picture(network) == before


def test_a_tensor_of_a_function_may_be_called_like_an_argument(capfd):
    b = Builder(17)
    modules(b)
    f = Body(b, "Rectified", ["x", "w", "b"])
    inner = f.node("Relu", "x")
    f.node("Conv", inner, "w", "b", pads=[1] * 4)
    f.nodes[0].output[0] = f.nodes[1].input[0] = "taken"
    f.returns(f.nodes[1].output[0])
    x = b.node("Neg", b.input("N", 3, 5, 5), out="taken")
    x = b.node("Rectified", x, b.normal(4, 3, 3, 3), b.normal(4), domain="local")
    b.output(b.node("Identity", bn(b, x, 4), out="y"), None)
    folds(b)
    assert capfd.readouterr() == ("", "")

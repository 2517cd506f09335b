"""Traps: what looks like a fold and is none, and how the plan says so."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.folding import check_folds, check_kept, count, fold_model

from normswap.graph.reasons import Reason

C = 6


def conv(b, x=None):
    return b.conv(x or b.input("N", 4, 7, 7), 4, C)


def test_training_mode():
    b = Builder(15)
    parameters = [b.const(v) for v in b.statistics(C)]
    y = b.node("BatchNormalization", conv(b), *parameters, outputs=3, training_mode=1)[0]
    b.output(y)
    check_kept(b.model(), Reason.TRAINING_MODE)


@pytest.mark.parametrize("used", [1, 2, 3, 4])
def test_statistics_that_are_used(used):
    b = Builder(9)
    parameters = [b.const(v) for v in b.statistics(C)]
    outputs = b.node("BatchNormalization", conv(b), *parameters, outputs=5)
    b.output(outputs[0]).output(outputs[used], (C,))
    check_kept(b.model(), Reason.USED_STATISTICS, tensor=outputs[used])


def test_statistics_per_activation():
    b = Builder(8)
    y = conv(b, b.input(2, 4, 7, 7))
    parameters = [b.normal(C, 5, 5), b.normal(C, 5, 5), b.normal(C, 5, 5)]
    parameters.append(b.const(b.rng.uniform(1, 2, (C, 5, 5))))
    b.nodes.append(helper.make_node("BatchNormalization", [y, *parameters], ["y"], "bn", spatial=0))
    b.outputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    check_kept(b.model(), Reason.PER_ACTIVATION)


@pytest.mark.parametrize("which", range(4), ids=["scale", "B", "mean", "var"])
def test_parameter_computed_at_run_time(which):
    b = Builder()
    y = conv(b)
    parameters = [b.const(v) for v in b.statistics(C)]
    parameters[which] = b.input(C, name="p")
    b.output(b.node("BatchNormalization", y, *parameters))
    check_kept(b.model(), Reason.NOT_CONSTANT, tensor="p")


def overridable(ir_version):
    b = Builder(8 if ir_version < 4 else 17)
    y = conv(b)
    b.output(b.bn(y, C))
    if ir_version >= 4:
        b.inputs.append(
            helper.make_tensor_value_info(
                b.initializers[0].name, TensorProto.FLOAT, b.initializers[0].dims
            )
        )
    return b.model(ir_version=ir_version)


def test_weight_that_a_caller_may_override():
    model = overridable(8)
    check_kept(model, Reason.OVERRIDABLE, tensor=model.graph.input[-1].name)


def test_weight_that_a_caller_may_override_is_constant_on_demand():
    folded, _ = fold_model(overridable(8), assume_constant=True)
    assert count(folded) == 0
    # The old weight is an input that nobody reads any more: it goes, with its values.
    assert [info.name for info in folded.graph.input] == ["x"]
    assert "k_1" not in {tensor.name for tensor in folded.graph.initializer}
    onnx.checker.check_model(folded, full_check=True)


def test_inputs_that_are_read_or_never_were_stay():
    model = overridable(8)
    weight, unread = model.graph.initializer[0], numpy_helper.from_array(np.ones(3), "unread")
    model.graph.initializer.append(unread)
    model.graph.input.append(helper.make_tensor_value_info("unread", unread.data_type, [3]))
    model.graph.node.append(helper.make_node("Neg", [weight.name], ["negative"]))
    model.graph.output.append(helper.make_tensor_value_info("negative", TensorProto.FLOAT, None))
    folded, _ = fold_model(model, assume_constant=True)
    assert count(folded) == 0
    assert [info.name for info in folded.graph.input] == ["x", weight.name, "unread"]


def test_every_initializer_of_an_old_model_is_an_input_and_constant():
    folded, _ = check_folds(overridable(3))
    listed = {info.name for info in folded.graph.input}
    assert {tensor.name for tensor in folded.graph.initializer} < listed


@pytest.mark.parametrize(
    ("var", "epsilon", "reason"),
    [
        (-1.0, 1e-5, Reason.INVALID_STATISTICS),
        (np.nan, 1e-5, Reason.NON_FINITE),
        (np.inf, 1e-5, Reason.NON_FINITE),
        (-1e-3, 1e-3, Reason.INVALID_STATISTICS),
        (0.0, 0.0, Reason.INVALID_STATISTICS),
    ],
)
def test_invalid_variance(var, epsilon, reason):
    b = Builder()
    scale, bias, mean, variance = b.statistics(C)
    variance[3] = var
    b.output(b.bn(conv(b), C, stats=(scale, bias, mean, variance), epsilon=epsilon))
    plan = check_kept(b.model(), reason)
    place = "index 3" if reason is Reason.NON_FINITE else "channel 3"
    assert place in plan.kept[0].detail


@pytest.mark.parametrize("which", range(3), ids=["scale", "B", "mean"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_statistics_that_are_not_finite(which, bad):
    b = Builder()
    stats = b.statistics(C)
    stats[which][2] = bad
    b.output(b.bn(conv(b), C, stats=stats))
    check_kept(b.model(), Reason.NON_FINITE)


@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1e-5, 1e-3, 1.0])
def test_every_epsilon(epsilon):
    b = Builder()
    b.output(b.bn(conv(b), C, epsilon=epsilon))
    check_folds(b.model())


def test_epsilon_left_out_is_its_default():
    b = Builder()
    parameters = [b.const(v * 1e-3) for v in b.statistics(C)]
    b.output(b.node("BatchNormalization", conv(b), *parameters))
    check_folds(b.model())


@pytest.mark.parametrize("variance", [1e-12, 1e12])
def test_tiny_and_huge_variances(variance):
    b = Builder()
    scale, bias, mean, var = b.statistics(C)
    b.output(b.bn(conv(b), C, stats=(scale, bias, mean, var * variance), epsilon=1e-10))
    check_folds(b.model())


def test_input_with_another_reader():
    b = Builder()
    y = conv(b)
    b.output(b.bn(y, C)).output(b.node("Relu", y))
    check_kept(b.model(), Reason.SEVERAL_READERS, tensor=y)


def test_input_that_is_a_graph_output():
    b = Builder()
    y = conv(b)
    b.output(b.bn(y, C)).output(y)
    check_kept(b.model(), Reason.GRAPH_OUTPUT, tensor=y)


def test_input_that_a_subgraph_captures():
    b = Builder()
    y = conv(b)
    condition = b.input(name="condition", elem_type=TensorProto.BOOL)
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, [y], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)],
        )
        for name, op in (("then", "Relu"), ("else", "Neg"))
    }
    b.output(b.bn(y, C)).output(b.node("If", condition, **branches))
    check_kept(b.model(), Reason.CAPTURED, tensor=y)


def test_input_of_the_graph():
    b = Builder()
    b.output(b.bn(b.input("N", C, 4, 4), C))
    check_kept(b.model(), Reason.GRAPH_INPUT, tensor="x")


def test_operator_that_is_not_known():
    b = Builder()
    b.output(b.bn(b.node("Softmax", conv(b)), C))
    check_kept(b.model(), Reason.OPERATOR)


def test_operator_of_another_domain():
    b = Builder()
    b.extra_opsets.append(helper.make_opsetid("com.example", 1))
    w = b.normal(C, 4, 3, 3)
    y = b.node("Conv", b.input("N", 4, 7, 7), w, domain="com.example")
    b.output(b.bn(y, C), ("N", C, 5, 5))
    check_kept(b.model(), Reason.OPERATOR)


def test_batchnorm_of_another_domain_is_none():
    b = Builder()
    b.extra_opsets.append(helper.make_opsetid("com.example", 1))
    b.output(b.bn(conv(b), C, domain="com.example"), ("N", C, 5, 5))
    folded, plan = fold_model(b.model())
    assert not plan.folded
    assert not plan.kept
    assert folded == b.model()


def test_every_batchnorm_is_in_the_plan_once():
    b = Builder()
    x = b.input("N", C, 6, 6)
    y = b.bn(x, C)
    y = b.bn(b.node("Relu", b.bn(b.conv(y, C, C), C)), C)
    y = b.bn(b.node("Relu", y), C)
    b.output(y)
    model = b.model()
    _, plan = fold_model(model)
    sites = [entry.site.node for entry in (*plan.folded, *plan.kept)]
    names = [node.name for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert sorted(sites) == sorted(names)


def test_the_plan_does_not_depend_on_node_order():
    b = Builder()
    x = b.input("N", C, 8, 8)
    ends = [b.bn(b.bn(b.conv(x, C, C, pads=[1, 1, 1, 1]), C), C) for _ in range(4)]
    b.output(b.bn(b.node("Sum", *ends), C))
    model = b.model()
    _, plan = fold_model(model)
    shuffled = onnx.ModelProto()
    shuffled.CopyFrom(model)
    nodes = list(model.graph.node)
    del shuffled.graph.node[:]
    branches = [nodes[3 * i : 3 * i + 3] for i in (2, 0, 3, 1)]
    shuffled.graph.node.extend([node for branch in branches for node in branch] + nodes[12:])
    onnx.checker.check_model(shuffled)
    _, other = fold_model(shuffled)
    assert plan.to_dict() == other.to_dict()


def test_nodes_that_computed_a_folded_weight_go():
    b = Builder()
    w = b.node("Transpose", b.node("Identity", b.normal(C, 5)), perm=[1, 0])
    b.output(b.bn(b.node("MatMul", b.input("N", 5), w), C))
    folded, _ = check_folds(b.model())
    assert [node.op_type for node in folded.graph.node] == ["MatMul", "Add"]
    assert len(folded.graph.initializer) == 2


def test_nodes_that_are_still_read_stay():
    b = Builder()
    w = b.node("Transpose", b.normal(C, 5), perm=[1, 0])
    x = b.input("N", 5)
    b.output(b.bn(b.node("MatMul", x, w), C)).output(b.node("MatMul", x, w))
    folded, _ = check_folds(b.model())
    assert [node.op_type for node in folded.graph.node].count("Transpose") == 1


def test_planning_changes_nothing():
    from normswap.folding.planner import make_plan
    from normswap.model import load

    b = Builder()
    b.output(b.bn(conv(b), C))
    model = load(b.model().SerializeToString())
    before = model.fingerprint()
    first = make_plan(model)
    assert model.fingerprint() == before
    assert make_plan(model).to_dict() == first.to_dict()


def test_channels_are_known_from_the_parameters():
    b = Builder()
    y = b.bn(b.input("N", "channels", 4, 4), C)
    bounds = [b.const(np.array([k])) for k in (0, 2**31, 1, 2)]
    y = b.node("Slice", y, *bounds)
    b.output(b.bn(y, C // 2))
    check_folds(b.model(), left=1, sizes={"channels": C})

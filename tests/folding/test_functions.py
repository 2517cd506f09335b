"""BatchNormalizations in model-local functions, specialised for calls that give them constants."""

import io

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, helper
from support.build import Builder
from support.folding import assert_same_function, check_kept, count, fold_model
from support.functions import Body, folds, names

from normswap.graph.reasons import Reason

ARGUMENTS = ["x", "w", "scale", "B", "mean", "var"]


def conv_bn(b, name="ConvBN", **options):
    f = Body(b, name, ARGUMENTS, **options)
    return f.returns(f.node("BatchNormalization", f.node("Conv", "x", "w"), *ARGUMENTS[2:]))


def weights(b, channels_in, channels):
    return [b.normal(channels, channels_in, 3, 3), *(b.const(v) for v in b.statistics(channels))]


def call(b, x, channels_in, channels, name="ConvBN", **options):
    return b.node(name, x, *weights(b, channels_in, channels), domain="local", **options)


def test_weights_within_the_function():
    b = Builder()
    f = Body(b, "Block", ["x"])
    f.returns(f.bn(f.conv("x", 4, 6), 6))
    b.output(b.node("Block", b.input(2, 4, 7, 7), domain="local"), (2, 6, 5, 5))
    folded, plan = folds(b)
    assert names(folded) == ["Block"]  # no copy is needed
    assert plan.folded[0].site.graph == "local:Block"


def test_weights_within_a_function_that_is_called_twice():
    b = Builder()
    f = Body(b, "Block", ["x"])
    f.returns(f.node("Relu", f.bn(f.conv("x", 4, 4, pads=[1] * 4), 4)))
    y = b.node("Block", b.input(2, 4, 7, 7), domain="local")
    b.output(b.node("Block", y, domain="local"), (2, 4, 7, 7))
    folded, plan = folds(b)
    assert names(folded) == ["Block"]
    assert len(plan.folded) == 1


def test_weights_as_arguments():
    b = Builder()
    conv_bn(b).doc_string = "a block"
    b.functions[0].metadata_props.add(key="origin", value="here")
    b.output(call(b, b.input(2, 4, 7, 7), 4, 6), (2, 6, 5, 5))
    folded, plan = folds(b)
    (function,) = folded.functions
    assert function.name == "ConvBN_specialised"  # the original has no caller any more
    assert function.doc_string == "a block"
    assert function.metadata_props[0].value == "here"
    assert list(function.input) == ["x"]
    assert len(folded.graph.node[0].input) == 1
    assert not folded.graph.initializer
    assert len(plan.folded) == 1
    assert not plan.kept


def test_two_sets_of_weights():
    b = Builder()
    conv_bn(b)
    y = b.node("Relu", call(b, b.input(2, 4, 9, 9), 4, 6))
    b.output(call(b, y, 6, 5), (2, 5, 5, 5))
    folded, plan = folds(b)
    assert len(folded.functions) == len(plan.folded) == 2


def test_equal_calls_share_a_copy():
    b = Builder()
    conv_bn(b)
    arguments = weights(b, 4, 4)
    x, z = b.input(2, 4, 7, 7), b.input(2, 4, 7, 7, name="z")
    for tensor in (x, z):
        b.output(b.node("ConvBN", tensor, *arguments, domain="local"), (2, 4, 5, 5))
    folded, plan = folds(b)
    assert len(folded.functions) == len(plan.folded) == 1


def test_other_calls_keep_the_function():
    b = Builder()
    conv_bn(b)
    y = call(b, b.input(2, 4, 9, 9), 4, 4)
    w = b.input(6, 4, 3, 3, name="w")
    statistics = [b.const(v) for v in b.statistics(6)]
    b.output(b.node("ConvBN", y, w, *statistics, domain="local"), (2, 6, 5, 5))
    folded, plan = folds(b, left=1)
    assert names(folded) == ["ConvBN", "ConvBN_specialised"]
    assert folded.functions[0] == b.model().functions[0]
    assert [entry.site.graph for entry in plan.kept] == ["local:ConvBN"]


def test_functions_in_functions():
    b = Builder()
    conv_bn(b)
    f = Body(b, "Stage", ["x", *(a + i for i in "12" for a in ARGUMENTS[1:])])
    y = f.node("ConvBN", "x", *(a + "1" for a in ARGUMENTS[1:]), domain="local")
    f.returns(
        f.node("ConvBN", f.node("Relu", y), *(a + "2" for a in ARGUMENTS[1:]), domain="local")
    )
    x = b.input(2, 4, 9, 9)
    arguments = [*weights(b, 4, 6), *weights(b, 6, 5)]
    b.output(b.node("Stage", x, *arguments, domain="local"), (2, 5, 5, 5))
    folded, plan = folds(b)
    assert sorted(names(folded)) == [
        "ConvBN_specialised",
        "ConvBN_specialised_1",
        "Stage_specialised",
    ]
    assert len(plan.folded) == 2


def test_constants_of_a_function_as_arguments_of_another():
    b = Builder()
    conv_bn(b)
    f = Body(b, "Stage", ["x"])
    arguments = [f.const(b.rng.normal(size=(6, 4, 3, 3))), *map(f.const, b.statistics(6))]
    f.returns(f.node("ConvBN", "x", *arguments, domain="local"))
    b.output(b.node("Stage", b.input(2, 4, 7, 7), domain="local"), (2, 6, 5, 5))
    folded, _ = folds(b)
    assert names(folded) == ["Stage", "ConvBN_specialised"]


@pytest.mark.parametrize("epsilon", [0.0, 0.25])
def test_epsilon_is_an_attribute_of_the_call(epsilon):
    b = Builder()
    f = Body(b, "ConvBN", ARGUMENTS, attributes=["eps"])
    y = f.node("Conv", "x", "w")
    refers = {"epsilon": ("eps", AttributeProto.FLOAT)}
    f.returns(f.node("BatchNormalization", y, *ARGUMENTS[2:], refers=refers))
    b.output(call(b, b.input(2, 4, 7, 7), 4, 6, eps=epsilon), (2, 6, 5, 5))
    folds(b)


def test_epsilon_has_a_default():
    b = Builder()
    f = Body(b, "ConvBN", ARGUMENTS, defaults=[helper.make_attribute("eps", 0.5)])
    y = f.node("Conv", "x", "w")
    refers = {"epsilon": ("eps", AttributeProto.FLOAT)}
    f.returns(f.node("BatchNormalization", y, *ARGUMENTS[2:], refers=refers))
    b.output(call(b, b.input(2, 4, 7, 7), 4, 6), (2, 6, 5, 5))
    folds(b)


def test_epsilon_differs_by_call():
    b = Builder()
    f = Body(b, "Block", ["x"], attributes=["eps"])
    y = f.conv("x", 4, 4, pads=[1] * 4)
    f.returns(f.node("Relu", f.bn(y, 4, refers={"epsilon": ("eps", AttributeProto.FLOAT)})))
    y = b.node("Block", b.input(2, 4, 7, 7), domain="local", eps=0.1)
    b.output(b.node("Block", y, domain="local", eps=2.0), (2, 4, 7, 7))
    folded, _ = folds(b)
    assert len(folded.functions) == 2


def test_only_the_call_knows_the_rank():
    b = Builder()
    f = Body(b, "Block", ["x"])
    y = f.node("MatMul", "x", f.const(b.rng.normal(size=(5, 6))))
    y = f.node("Transpose", f.node("Add", y, f.const(b.rng.normal(size=6))), perm=[0, 2, 1])
    f.returns(f.bn(y, 6))
    b.output(b.node("Block", b.input(2, 7, 5), domain="local"), (2, 6, 7))
    folds(b)


def test_shape_as_an_argument():
    b = Builder()
    f = Body(b, "Block", ["x", "shape"])
    y = f.node("Gemm", "x", f.const(b.rng.normal(size=(5, 24))))
    f.returns(f.bn(f.node("Reshape", y, "shape"), 6))
    shape = b.const(np.array([2, 6, 2, 2]))
    b.output(b.node("Block", b.input(2, 5), shape, domain="local"), (2, 6, 2, 2))
    folds(b)


def test_weight_computed_from_arguments():
    b = Builder()
    f = Body(b, "Block", ["x", "w", "gain"])
    f.returns(f.bn(f.node("Conv", "x", f.node("Mul", "w", "gain")), 6))
    arguments = b.normal(6, 4, 3, 3), b.normal(6, 1, 1, 1)
    b.output(b.node("Block", b.input(2, 4, 7, 7), *arguments, domain="local"), (2, 6, 5, 5))
    folds(b)


def test_argument_that_is_left_out():
    b = Builder()
    f = Body(b, "Block", ["x", "w", "bias"])
    f.returns(f.bn(f.node("Conv", "x", "w", "bias"), 6))
    x = b.input(2, 4, 7, 7)
    b.output(b.node("Block", x, b.normal(6, 4, 3, 3), b.normal(6), domain="local"), (2, 6, 5, 5))
    folds(b)


def test_call_in_a_subgraph():
    b = Builder()
    conv_bn(b)
    x = b.input(2, 4, 7, 7)
    condition = b.input(name="condition", elem_type=onnx.TensorProto.BOOL)
    graphs = {}
    for name in ("then", "else"):
        outer, b.nodes = b.nodes, []
        y = call(b, x, 4, 6)
        info = helper.make_tensor_value_info(y, 1, (2, 6, 5, 5))
        graphs[f"{name}_branch"] = helper.make_graph(b.nodes, name, [], [info])
        b.nodes = outer
    b.output(b.node("If", condition, **graphs), (2, 6, 5, 5))
    folded, _ = folds(b)
    assert len(folded.functions) == 2


def test_subgraph_in_a_function_reads_arguments():
    b = Builder()
    f = Body(b, "Block", ["condition", *ARGUMENTS])
    info = helper.make_tensor_value_info
    then = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("BatchNormalization", ["c", *ARGUMENTS[2:]], ["t"]),
        ],
        "then",
        [],
        [info("t", 1, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["e"])], "else", [], [info("e", 1, None)]
    )
    f.returns(f.node("If", "condition", then_branch=then, else_branch=other))
    x = b.input(2, 4, 7, 7)
    condition = b.input(name="condition", elem_type=onnx.TensorProto.BOOL)
    y = b.node("Block", condition, x, *weights(b, 4, 6), domain="local")
    b.output(y, (2, 6, 5, 5))
    folded, _ = folds(b)
    assert list(folded.functions[0].input) == ["condition", "x", "w"]  # w is still read


def test_overloads():
    b = Builder(opset=21)
    for overload in ("one", "two"):
        f = Body(b, "Block", ARGUMENTS, overload=overload)
        y = f.node("Conv", "x", "w", pads=[1] * 4 if overload == "one" else [0] * 4)
        f.returns(f.node("BatchNormalization", y, *ARGUMENTS[2:]))
    y = b.input(2, 4, 9, 9)
    for overload in ("one", "two", "one"):
        y = call(b, y, 4, 4, name="Block")
        b.nodes[-1].overload = overload
    b.output(y, (2, 4, 7, 7))
    model = b.model(ir_version=10)
    folded, plan = fold_model(model)
    onnx.checker.check_model(folded)
    assert count(folded) == 0
    assert len(plan.folded) == 3
    calls = {(node.op_type, node.overload) for node in folded.graph.node}
    assert calls == {(function.name, function.overload) for function in folded.functions}


def test_functions_of_one_name_in_two_domains():
    b = Builder()
    for domain in ("local", "other"):
        f = Body(b, "Block", ["x"], domain=domain)
        y = f.conv("x", 4, 4, pads=[1] * 4)
        f.returns(f.node("Relu", f.bn(y, 4) if domain == "local" else y))
    y = b.node("Block", b.input(2, 4, 7, 7), domain="local")
    b.output(b.node("Block", y, domain="other"), (2, 4, 7, 7))
    folds(b)


def test_name_that_is_taken():
    b = Builder()
    conv_bn(b)
    f = Body(b, "ConvBN_specialised", ["x"])
    f.returns(f.node("Neg", "x"))
    y = b.node("ConvBN_specialised", b.input(2, 4, 7, 7), domain="local")
    b.output(call(b, y, 4, 6), (2, 6, 5, 5))
    folded, _ = folds(b)
    assert names(folded) == ["ConvBN_specialised", "ConvBN_specialised_1"]


def test_function_that_nobody_calls_stays():
    b = Builder()
    conv_bn(b)
    conv_bn(b, "Unused")
    b.output(call(b, b.input(2, 4, 7, 7), 4, 6), (2, 6, 5, 5))
    folded, plan = folds(b, left=1)
    assert names(folded) == ["Unused", "ConvBN_specialised"]
    assert [entry.site.graph for entry in plan.kept] == ["local:Unused"]


# What stays


def test_argument_that_is_an_input():
    b = Builder()
    conv_bn(b)
    w = b.input(6, 4, 3, 3, name="weight")
    statistics = [b.const(v) for v in b.statistics(6)]
    x = b.input(2, 4, 7, 7)
    b.output(b.node("ConvBN", x, w, *statistics, domain="local"), (2, 6, 5, 5))
    check_kept(b.model(), Reason.NOT_CONSTANT)


def test_argument_that_a_caller_may_override():
    b = Builder()
    conv_bn(b)
    x = b.input(2, 4, 7, 7)
    b.output(call(b, x, 4, 6), (2, 6, 5, 5))
    weight = b.initializers[0]
    b.inputs.append(helper.make_tensor_value_info(weight.name, 1, weight.dims))
    check_kept(b.model(), Reason.NOT_CONSTANT)
    assert count(fold_model(b.model(), assume_constant=True)[0]) == 0


def test_training_mode_of_the_call():
    b = Builder()
    f = Body(b, "ConvBN", ARGUMENTS, attributes=["training"])
    y = f.node("Conv", "x", "w")
    refers = {"training_mode": ("training", AttributeProto.INT)}
    f.returns(*f.node("BatchNormalization", y, *ARGUMENTS[2:], outputs=3, refers=refers))
    ends = call(b, b.input(2, 4, 7, 7), 4, 6, training=1, outputs=3)
    b.output(ends[0], (2, 6, 5, 5))
    check_kept(b.model(), Reason.NOT_CONSTANT)


def test_result_of_the_conv_is_returned_too():
    b = Builder()
    f = Body(b, "Block", ["x"])
    y = f.conv("x", 4, 6)
    f.returns(f.node("Relu", f.bn(y, 6)), y)
    for end in b.node("Block", b.input(2, 4, 7, 7), domain="local", outputs=2):
        b.output(end, (2, 6, 5, 5))
    check_kept(b.model(), Reason.GRAPH_OUTPUT)


def test_specialised_functions_survive_external_data(tmp_path):
    from normswap.folding.apply import apply_plan
    from normswap.folding.planner import make_plan
    from normswap.model import load, write_to

    b = Builder()
    conv_bn(b)
    b.output(call(b, b.input(2, 4, 7, 7), 4, 6), (2, 6, 5, 5))
    model = b.model()
    onnx.save(
        model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="d"
    )
    loaded = load(tmp_path / "m.onnx")
    apply_plan(make_plan(loaded), loaded)
    stream = io.BytesIO()
    write_to(loaded, stream)
    folded = onnx.ModelProto.FromString(stream.getvalue())
    assert count(folded) == 0
    assert_same_function(b.model(), folded)

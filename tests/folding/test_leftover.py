"""What can't be folded, in the form that is asked for."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.build import Builder
from support.folding import (
    assert_same_function,
    assert_same_signature,
    check_kept,
    fold_model,
)
from support.graphs import live_ops
from support.random_scopes import in_function

from normswap.graph.reasons import Reason
from normswap.workflows.fold import fold

C = 6


def stuck(b, *, rank=4, **options):
    """A BatchNormalization that nothing linear is next to."""
    x = b.node("Softmax", b.input("N", C, *[5] * (rank - 2)), axis=-1)
    b.output(b.node("Sigmoid", b.bn(x, C, **options)))
    return b.model()


def rewritten(model, form):
    folded, plan = fold_model(model, leftover=form)
    onnx.checker.check_model(folded, full_check=True)
    assert_same_signature(model, folded)
    assert_same_function(model, folded)
    again, second = fold_model(folded, leftover=form)
    assert again == folded
    assert not second.folded
    return folded, plan


def tensors(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_affine(rank, dtype):
    folded, plan = rewritten(stuck(Builder(dtype=dtype), rank=rank), "affine")
    assert live_ops(folded) == ["Softmax", "Mul", "Add", "Sigmoid"]
    (kept,) = plan.kept
    assert kept.form == "affine"
    assert not plan.folded
    assert {t.shape for t in tensors(folded).values()} == {(C, *[1] * (rank - 2))}


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normalize(rank, dtype):
    folded, plan = rewritten(stuck(Builder(dtype=dtype), rank=rank), "normalize")
    assert live_ops(folded) == ["Softmax", "BatchNormalization", "Sigmoid"]
    node = folded.graph.node[1]
    _, _, mean, var = (tensors(folded)[name] for name in node.input[1:])
    assert not mean.any()
    assert (var == 1).all()
    assert next(a.f for a in node.attribute if a.name == "epsilon") == 0.0
    assert plan.kept[0].form == "normalize"


@pytest.mark.parametrize("form", ["affine", "normalize"])
def test_one_rounding(form):
    b = Builder()
    stats = [v.astype(np.float32) for v in b.statistics(C)]
    stats[2] = (stats[2] * 1e4).astype(np.float32)  # the mean: what cancels must not be rounded
    folded, _ = fold_model(stuck(b, stats=stats, epsilon=1e-3), leftover=form)
    scale, bias, mean, var = (v.astype(np.longdouble) for v in stats)
    s = scale / np.sqrt(var + np.longdouble(np.float32(1e-3)))
    t = bias - mean * s
    names = [t.name for t in folded.graph.initializer]
    found = [tensors(folded)[name].reshape(-1) for name in names]
    for want in (s, t):
        assert any((array == want.astype(np.float32)).all() for array in found)


def test_keep_is_the_default():
    model = stuck(Builder())
    folded, plan = fold_model(model)
    assert folded == model
    assert plan.kept[0].form == "keep"


def test_trivial_parts_are_left_out():
    one, zero = np.ones(C), np.zeros(C)
    b = Builder()
    folded, _ = rewritten(
        stuck(b, stats=(one, b.rng.normal(size=C), zero, one), epsilon=0.0), "affine"
    )
    assert live_ops(folded) == ["Softmax", "Add", "Sigmoid"]
    b = Builder()
    folded, _ = rewritten(
        stuck(b, stats=(b.rng.normal(size=C), zero, zero, one), epsilon=0.0), "affine"
    )
    assert live_ops(folded) == ["Softmax", "Mul", "Sigmoid"]


def test_arithmetic_becomes_one_mul_and_one_add():
    b = Builder()
    x = b.node("Softmax", b.input("N", C, 5, 5), axis=-1)
    y = b.node("Div", b.node("Sub", x, b.normal(C, 1, 1)), b.normal(C, 1, 1))
    y = b.node("Add", b.node("Mul", y, b.normal(C, 1, 1)), b.normal(C, 1, 1))
    b.output(b.node("Sigmoid", y))
    folded, plan = rewritten(b.model(), "affine")
    assert live_ops(folded) == ["Softmax", "Mul", "Add", "Sigmoid"]
    assert plan.kept[0].site.op == "Sub+Div+Mul+Add"


@pytest.mark.parametrize("form", ["affine", "normalize"])
def test_what_is_in_that_form_already(form):
    model = stuck(Builder())
    folded, _ = fold_model(model, leftover=form)
    again, plan = fold_model(folded, leftover=form)
    assert again == folded
    assert plan.kept[0].form == "keep"


@pytest.mark.parametrize("where", ["graph output", "captured", "several readers"])
def test_names_survive(where):
    b = Builder()
    x = b.node("Softmax", b.input("N", C, 5, 5), axis=-1)
    y = b.bn(x, C, out="y")
    if where == "graph output":
        b.output(y)
    elif where == "several readers":
        b.output(b.node("Sigmoid", y)).output(b.node("Neg", y))
    else:
        condition = b.input(name="condition", elem_type=onnx.TensorProto.BOOL)
        graphs = {}
        for name, op in (("then", "Sigmoid"), ("else", "Neg")):
            info = helper.make_tensor_value_info(f"{name}_out", 1, None)
            node = helper.make_node(op, ["y"], [f"{name}_out"])
            graphs[f"{name}_branch"] = helper.make_graph([node], name, [], [info])
        b.output(b.node("If", condition, **graphs))
    folded, _ = rewritten(b.model(), "affine")
    assert "y" in {name for node in folded.graph.node for name in node.output}


def test_in_a_subgraph():
    b = Builder()
    x = b.node("Softmax", b.input(2, C, 5, 5), axis=-1)
    condition = b.input(name="condition", elem_type=onnx.TensorProto.BOOL)
    outer, b.nodes = b.nodes, []
    y = b.bn(x, C)
    info = helper.make_tensor_value_info
    then = helper.make_graph(b.nodes, "then", [], [info(y, 1, (2, C, 5, 5))])
    b.nodes = outer
    other = helper.make_graph(
        [helper.make_node("Neg", [x], ["e"])], "else", [], [info("e", 1, None)]
    )
    b.output(b.node("If", condition, then_branch=then, else_branch=other))
    folded, _ = rewritten(b.model(), "affine")
    body = next(a.g for a in folded.graph.node[1].attribute if a.name == "then_branch")
    assert [node.op_type for node in body.node] == ["Mul", "Add"]


@pytest.mark.parametrize("opset", [14, 15, 17])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_mixed_types(opset, dtype):
    """Activations with wider statistics, from opset 14 on: computed in the wider type as before."""
    wide = np.float32 if dtype == "float16" else np.float64
    b = Builder(opset, dtype)
    x = b.node("Softmax", b.input("N", C, 5, 5), axis=-1)
    values = b.statistics(C)
    kinds = [wide] * 4
    if opset < 15:  # where scale and B are of the type of the data
        kinds[:2] = [b.np_dtype] * 2
    parameters = [b.const(v, dtype=kind) for v, kind in zip(values, kinds, strict=True)]
    b.output(b.node("BatchNormalization", x, *parameters))
    model = b.model()
    folded, plan = rewritten(model, "affine")
    assert {t.dtype for t in tensors(folded).values()} == {np.dtype(wide)}
    assert live_ops(folded) == ["Softmax", "Cast", "Mul", "Add", "Cast"]
    assert plan.kept[0].form == "affine"
    folded, _ = fold_model(model, leftover="normalize")
    assert [t.dtype for t in tensors(folded).values()] == kinds


@pytest.mark.parametrize("where", ["graph", "function"])
def test_mixed_types_pass_the_check(where):
    """Products that cancel: computed in float16 they would be off by as much as the result."""
    b = Builder(15, "float16")
    x = b.node("Relu", b.input(2, C, 8, 8))
    scale, bias, _, var = b.statistics(C, positive=True)
    stats = [scale * 3, bias, np.full(C, 300.0), var]
    y = b.node("BatchNormalization", x, *[b.const(v, dtype=np.float32) for v in stats])
    b.output(b.node("Sigmoid", y), (2, C, 8, 8))
    model = b.model()
    if where == "function":
        model = in_function(model)
    result = fold(model, leftover="affine")
    assert result.report.check.verdict.value == "equivalent"
    body = result.model.functions[0].node if where == "function" else result.model.graph.node
    ops = [node.op_type for node in body if node.op_type != "Constant"]
    assert ops == ["Relu", "Cast", "Mul", "Add", "Cast", "Sigmoid"]


def calls(shapes, dtype="float32", *, nested=False):
    """A function with a BatchNormalization, called with tensors of several shapes."""
    b = Builder(17, dtype)
    stats = [numpy_helper.from_array(v.astype(b.np_dtype)) for v in b.statistics(C)]
    names = ["scale", "B", "mean", "var"]
    nodes = [
        helper.make_node("Constant", [], [name], value=value)
        for name, value in zip(names, stats, strict=True)
    ]
    nodes.append(helper.make_node("Softmax", ["X"], ["s"]))
    nodes.append(helper.make_node("BatchNormalization", ["s", *names], ["n"], "bn"))
    nodes.append(helper.make_node("Sigmoid", ["n"], ["Y"]))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    b.functions.append(helper.make_function("local", "F", ["X"], ["Y"], nodes, opsets))
    if nested:
        inner = [helper.make_node("F", ["X"], ["Y"], domain="local")]
        b.functions.append(helper.make_function("local", "G", ["X"], ["Y"], inner, opsets))
    b.extra_opsets = [helper.make_opsetid("local", 1)]
    for number, shape in enumerate(shapes):
        x = b.input(*shape, name=f"x{number}")
        b.output(b.node("G" if nested else "F", x, domain="local"), shape)
    return b.model()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("shapes", "bodies"),
    [
        ([(2, C, 5, 5)], 1),
        ([("N", C, "H", "W")], 1),
        ([(2, C, 5, 5), (3, C, 4, 1)], 1),
        ([(2, C)], 1),
        ([(2, C, 5, 5), (2, C, 5)], 2),
    ],
)
def test_in_a_function(shapes, bodies, nested):
    """The rank is what all calls of it have; where they differ, each gets an affine of its own."""
    folded, plan = rewritten(calls(shapes, nested=nested), "affine")
    found = [
        [node.op_type for node in function.node if node.op_type != "Constant"]
        for function in folded.functions
        if function.name.startswith("F")
    ]
    assert found == [["Softmax", "Mul", "Add", "Sigmoid"]] * bodies
    assert {entry.form for entry in plan.kept} == {"affine"}


def test_opset_6_broadcasts_by_attribute():
    b = Builder(6)
    x = b.node("Softmax", b.input(2, C, 5, 5), axis=3)
    y = b.node("BatchNormalization", x, *(b.const(v) for v in b.statistics(C)), is_test=1)
    b.output(y, (2, C, 5, 5))
    folded, _ = fold_model(b.model(), leftover="affine")
    onnx.checker.check_model(folded, full_check=True)
    for node in folded.graph.node[1:]:
        assert {(a.name, a.i) for a in node.attribute} == {("broadcast", 1), ("axis", 1)}


# What is planned on is what is stored


@pytest.mark.parametrize("form", ["affine", "normalize"])
def test_at_the_edge_of_the_digits_of_a_type(form):
    """Whether factors have their digits hangs on how the scale is rounded: once for all."""
    b = Builder(17, "float16")
    x = b.node("Softmax", b.input(2, 2), axis=-1)
    scale, bias = [7.569789886474609e-06, 1.1146068572998047e-05], [-0.33740234375, 0.78759765625]
    mean, var = [-1.8056640625, 4.0390625], [0.01546478271484375, 0.0144195556640625]
    y = b.bn(x, 2, stats=(scale, bias, mean, var), epsilon=0.1)
    weight = b.const(np.array([[0.50634765625, -1.197265625], [-1.326171875, -1.404296875]]))
    b.output(b.node("Add", b.node("MatMul", y, weight), b.normal(2, 2)), (2, 2))
    rewritten(b.model(), form)


@pytest.mark.parametrize(("shift", "left"), [(0.5, ["Add"]), (0.0, [])])
def test_a_scale_that_is_stored_as_one(shift, left):
    """float16 has no 0.999995, which an epsilon of 1e-5 makes of 1."""
    b = Builder(17, "float16")
    stats = (np.ones(C), np.full(C, shift), np.zeros(C), np.ones(C))
    folded, _ = rewritten(stuck(b, stats=stats, epsilon=1e-5), "affine")
    assert live_ops(folded) == ["Softmax", *left, "Sigmoid"]


# What has no other form


@pytest.mark.parametrize("form", ["affine", "normalize"])
def test_training_mode(form):
    b = Builder(15)
    x = b.node("Softmax", b.input(2, C, 5, 5))
    parameters = [b.const(v) for v in b.statistics(C)]
    y = b.node("BatchNormalization", x, *parameters, outputs=3, training_mode=1)[0]
    b.output(y)
    check_kept(b.model(), Reason.TRAINING_MODE, leftover=form)


@pytest.mark.parametrize("form", ["affine", "normalize"])
def test_overflow(form):
    b = Builder(dtype="float16")
    stats = (np.full(C, 6e4), np.zeros(C), np.zeros(C), np.full(C, 1e-4))
    check_kept(stuck(b, stats=stats, epsilon=0.0), Reason.OPERATOR, leftover=form)


def test_arithmetic_that_is_no_normalization_for_certain_stays():
    b = Builder()
    x = b.node("Softmax", b.input("N", 7, C))
    y = b.node("Div", b.node("Sub", x, b.normal(C)), b.normal(C))
    y = b.node("Mul", y, b.normal(C))
    b.output(b.node("Sigmoid", y))
    model = b.model()
    assert fold_model(model, leftover="affine")[0] == model


def test_unknown_rank_has_no_affine_form():
    b = Builder()
    shape = b.input("R", name="shape", elem_type=7)
    y = b.bn(b.node("Reshape", b.input("N", C, 4, 4), shape), C)
    b.output(y, (None,) * 4)
    model = b.model()
    folded, _ = fold_model(model, leftover="affine")
    assert folded == model


def test_statistics_per_activation():
    b = Builder(8)
    x = b.node("Softmax", b.input(2, C, 5, 5), axis=3)
    shape = (C, 5, 5)
    parameters = [b.normal(*shape), b.normal(*shape), b.normal(*shape)]
    parameters.append(b.const(b.rng.uniform(1, 2, shape)))
    b.output(b.node("BatchNormalization", x, *parameters, spatial=0))
    model = b.model()
    folded, _ = rewritten(model, "affine")
    assert live_ops(folded) == ["Softmax", "Mul", "Add"]
    assert fold_model(model, leftover="normalize")[0] == model


@pytest.mark.parametrize("form", ["keep", "affine", "normalize"])
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("where", ["graph", "function"])
def test_channels_that_onnx_counts_otherwise(where, twice, form):
    """A pooling whose windows ONNX counts otherwise makes the channels: a Mul is not loaded."""
    b = Builder(12)
    x = b.conv(b.input(1, 4, 4, 5), 4, 4, kernel=(1, 1))
    x = b.bn(x, 4)  # that folds: a function is specialised for it
    pooled = b.node("AveragePool", x, kernel_shape=[2, 1], strides=[2, 3], ceil_mode=1)
    y = b.node("Sigmoid", b.node("Flatten", pooled, axis=1))
    y = b.bn(y, 16)
    if twice:
        y = b.bn(b.node("Sigmoid", y), 16)
    b.output(b.node("Sigmoid", y), (1, None))
    model = b.model()
    if where == "function":
        model = in_function(model)
    folded, plan = rewritten(model, form)
    body = folded.functions[0].node if folded.functions else folded.graph.node
    kept = [node.op_type for node in body if node.op_type != "Constant"]
    norms = ["BatchNormalization", "Sigmoid"]
    assert kept == ["Conv", "AveragePool", "Flatten", "Sigmoid", *norms, *norms * twice]
    assert len(plan.folded) == 1


def _scaled(b, x):
    return b.bn(b.node("Mul", x, b.const([2.5])), 16)


def _shifted(b, x):
    return b.bn(b.node("Add", b.node("Mul", x, b.const([2.5])), b.const([0.5])), 16)


def _rescaled(b, x):
    return b.node("Mul", b.bn(x, 16), b.const([2.5]))


@pytest.mark.parametrize("form", ["keep", "affine"])
@pytest.mark.parametrize(
    ("around", "stays"),
    [
        (_scaled, ["Mul", "BatchNormalization"]),
        (_shifted, ["BatchNormalization"]),  # which takes in the others
        (_rescaled, ["BatchNormalization", "Mul"]),
    ],
)
def test_a_scalar_does_not_grow_along_what_onnx_counts_otherwise(around, stays, form):
    b = Builder(12)
    x = b.input(1, 4, 4, 5)
    pooled = b.node("AveragePool", x, kernel_shape=[2, 1], strides=[2, 3], ceil_mode=1)
    x = b.node("Sigmoid", b.node("Flatten", pooled, axis=1))
    b.output(b.node("Sigmoid", around(b, x)), (1, None))
    folded, _ = rewritten(b.model(), form)
    assert live_ops(folded) == ["AveragePool", "Flatten", "Sigmoid", *stays, "Sigmoid"]


@pytest.mark.parametrize("normalized", [False, True])
def test_an_argument_in_doubt(normalized):
    """A function's body is in doubt about what its caller is."""
    b = Builder(12)
    x = b.input(1, 4, 4, 5)
    pooled = b.node("AveragePool", x, kernel_shape=[2, 1], strides=[2, 3], ceil_mode=1)
    x = b.node("Flatten", pooled, axis=1)
    if normalized:  # which tells the true size
        x = b.node("Sigmoid", b.bn(x, 16))
    outer = len(b.nodes)
    y = b.node("Sigmoid", b.bn(b.node("Sigmoid", x), 16))
    b.output(b.node("Gemm", b.bn(y, 16), b.normal(16, 3), b.normal(3)), (1, 3))
    model = b.model()
    inner = list(model.graph.node)[outer:]
    made = {name for node in inner for name in node.output}
    read = sorted({name for node in inner for name in node.input} - made)
    outputs = [info.name for info in model.graph.output]
    function = helper.make_function("local", "Body", read, outputs, inner, model.opset_import)
    del model.graph.node[outer:]
    model.graph.node.append(helper.make_node("Body", read, outputs, "call", domain="local"))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.ir_version = max(model.ir_version, 8)
    folded, plan = rewritten(model, "affine")
    assert len(plan.folded) == 1
    (body,) = folded.functions
    kept = [node.op_type for node in body.node if node.op_type != "Constant"]
    assert kept == ["Sigmoid", "BatchNormalization", "Sigmoid", "Gemm"]

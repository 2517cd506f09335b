"""Where constants hide, and what only looks constant."""

import io

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.folding import assert_same_function, check_folds, check_kept, count, fold_model

from normswap.folding.apply import apply_plan
from normswap.folding.planner import make_plan
from normswap.graph import evaluate
from normswap.graph.reasons import Blocked, Reason
from normswap.model import load, write_to

C = 6


def ints(b, *values):
    return b.const(np.array(values))


def with_weight(make, *, opset=17, dtype="float32"):
    """A Conv and a BatchNormalization; its weight is what ``make`` returns for an array."""
    b = Builder(opset, dtype)
    w = make(b, b.rng.normal(size=(C, 4, 3, 3)).astype(b.np_dtype))
    b.output(b.bn(b.node("Conv", b.input("N", 4, 7, 7), w), C), ("N", C, 5, 5))
    return b.model()


def sparse(array, name=""):
    flat = array.reshape(-1)
    where = np.flatnonzero(flat)
    return helper.make_sparse_tensor(
        numpy_helper.from_array(flat[where], name), numpy_helper.from_array(where), array.shape
    )


def sparse_constant(b, w):
    w[np.abs(w) < 0.5] = 0
    return b.node("Constant", sparse_value=sparse(w))


def split(b, w):
    double = b.const(np.concatenate([w, 2 * w]))
    return b.node("Split", double, ints(b, C, C), outputs=2, axis=0)[1]


def normalized(b, w):
    """Weight normalization: g * v / |v|."""
    v, g = b.const(w), b.const(b.rng.uniform(1, 2, (C, 1, 1, 1)))
    return b.node("Div", b.node("Mul", v, g), b.node("ReduceL2", v, axes=[1, 2, 3], keepdims=1))


def low_rank(b, w):
    update = b.node("MatMul", b.normal(C, 2), b.normal(2, 36))
    return b.node("Add", b.const(w), b.node("Reshape", update, ints(b, C, 4, 3, 3)))


def standardized(b, w, *, outputs=3, **mode):
    """Weight standardization, as a normalization of the weight by its own statistics."""
    flat = b.node("Reshape", b.const(w), ints(b, 1, C, -1))
    given = [b.const(np.full(C, value)) for value in (1.0, 0.0, 0.0, 1.0)]
    flat = b.node("BatchNormalization", flat, *given, outputs=outputs, **mode)
    return b.node("Reshape", flat[0], ints(b, C, 4, 3, 3))


WEIGHTS = {
    "initializer": lambda b, w: b.const(w),
    "Constant": lambda b, w: b.node("Constant", value=numpy_helper.from_array(w)),
    "sparse Constant": sparse_constant,
    "Identity": lambda b, w: b.node("Identity", b.const(w)),
    "chain of Identity": lambda b, w: b.node(
        "Identity", b.node("Identity", b.node("Identity", b.const(w)))
    ),
    "Cast": lambda b, w: b.node("Cast", b.const(w, dtype=np.float64), to=1),
    "Reshape": lambda b, w: b.node("Reshape", b.const(w.reshape(C, -1)), ints(b, C, 4, 3, 3)),
    "Reshape to a Shape": lambda b, w: b.node(
        "Reshape", b.const(w.reshape(-1)), b.node("Shape", b.const(np.zeros((C, 4, 3, 3))))
    ),
    "Transpose": lambda b, w: b.node(
        "Transpose", b.const(w.transpose(2, 3, 1, 0)), perm=[3, 2, 0, 1]
    ),
    "Unsqueeze": lambda b, w: b.node(
        "Squeeze", b.node("Unsqueeze", b.const(w), ints(b, 0)), ints(b, 0)
    ),
    "Squeeze": lambda b, w: b.node("Squeeze", b.const(w[None]), ints(b, 0)),
    "Slice": lambda b, w: b.node(
        "Slice", b.const(np.concatenate([w, w])), ints(b, C), ints(b, 2 * C), ints(b, 0)
    ),
    "Concat": lambda b, w: b.node("Concat", b.const(w[:2]), b.const(w[2:]), axis=0),
    "Gather": lambda b, w: b.node("Gather", b.const(w), b.const(np.arange(C)[::-1].copy()), axis=0),
    "Expand": lambda b, w: b.node("Expand", b.const(w[:, :1]), ints(b, C, 4, 3, 3)),
    "Tile": lambda b, w: b.node("Tile", b.const(w[:, :1]), ints(b, 1, 4, 1, 1)),
    "Split": split,
    "ConstantOfShape": lambda b, w: b.node(
        "ConstantOfShape",
        ints(b, C, 4, 3, 3),
        value=numpy_helper.from_array(np.array([0.5], np.float32)),
    ),
    "weight normalization": normalized,
    "weight standardization": lambda b, w: standardized(b, w, training_mode=1),
    "weight standardization by InstanceNormalization": lambda b, w: b.node(
        "Reshape",
        b.node(
            "InstanceNormalization",
            b.const(w.reshape(1, C, -1)),
            b.const(np.ones(C)),
            b.const(np.zeros(C)),
        ),
        ints(b, C, 4, 3, 3),
    ),
    "low-rank update": low_rank,
    "Where": lambda b, w: b.node("Where", b.const(w > 0), b.const(w), b.const(np.zeros(1))),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("large", [False, True])
def test_weights(name, large, monkeypatch):
    if large:  # then computed values are not kept but computed again when they are written
        monkeypatch.setattr(evaluate, "LARGEST_KEPT", 1)
    check_folds(with_weight(WEIGHTS[name]))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("name", ["Constant", "Identity", "Transpose", "Split"])
def test_weights_of_other_types(name, dtype):
    check_folds(with_weight(WEIGHTS[name], dtype=dtype))


@pytest.mark.parametrize("opset", [9, 13])
def test_a_weight_that_is_standardized_by_the_outputs_of_old_opsets(opset):
    check_folds(with_weight(lambda b, w: standardized(b, w, outputs=5), opset=opset))


def test_a_weight_that_is_standardized_and_read_as_it_is():
    """The constant is no layer, and stays for who reads it."""
    b = Builder()
    w = standardized(b, b.rng.normal(size=(C, 4, 3, 3)), training_mode=1)
    x = b.input("N", 4, 7, 7)
    b.output(b.bn(b.node("Conv", x, w), C)).output(b.node("Conv", x, w))
    folded, plan = fold_model(b.model())
    assert [(entry.reason, entry.detail) for entry in plan.kept] == [
        (Reason.CONSTANT, "it normalizes reshape_3, which is a constant")
    ]
    assert len(plan.folded) == 1
    assert_same_function(b.model(), folded)


def test_a_weight_that_is_standardized_by_what_the_runtime_makes():
    b = Builder()
    x, flat = b.input("N", 4, 7, 7), b.node("Reshape", b.normal(C, 36), ints(b, 1, C, -1))
    scale = b.node("ReduceMean", x, axes=[0, 2, 3], keepdims=0)
    scale = b.node("Concat", scale, b.const(np.ones(2)), axis=0)
    given = [b.const(np.zeros(C)), b.const(np.zeros(C)), b.const(np.ones(C))]
    flat = b.node("BatchNormalization", flat, scale, *given, outputs=3, training_mode=1)[0]
    w = b.node("Reshape", flat, ints(b, C, 4, 3, 3))
    b.output(b.bn(b.node("Conv", x, w), C), ("N", C, 5, 5))
    _, plan = fold_model(b.model())
    assert {entry.reason for entry in plan.kept} == {Reason.TRAINING_MODE, Reason.NOT_CONSTANT}


@pytest.mark.parametrize("opset", [12, 13, 21])
def test_value_forms_of_constant_nodes(opset):
    b = Builder(opset)
    scale, bias, mean, _ = b.statistics(C)
    parameters = [
        b.node("Constant", value_floats=[float(v) for v in scale]),
        b.node("Constant", value_floats=[float(v) for v in bias]),
        b.node("Constant", value=numpy_helper.from_array(mean.astype(np.float32))),
        b.node("Cast", b.node("Constant", value_ints=[1, 2, 3, 4, 5, 6]), to=1),
    ]
    y = b.node("BatchNormalization", b.conv(b.input("N", 4, 7, 7), 4, C), *parameters)
    y = b.node("Mul", y, b.node("Constant", value_float=0.5))
    y = b.node("Add", y, b.node("Cast", b.node("Constant", value_int=3), to=1))
    b.output(y)
    _, plan = check_folds(b.model())
    assert [entry.site.op for entry in plan.folded] == ["BatchNormalization", "Mul+Add"]


@pytest.mark.parametrize("form", ["value_string", "value_strings"])
def test_text_is_no_weight(form):
    b = Builder(19)  # text can be compared from here on
    text = b.node("Constant", **{form: "abc" if form == "value_string" else ["a", "b"]})
    same = b.node("Cast", b.node("Equal", text, text), to=1)
    y = b.node("Mul", b.conv(b.input("N", 4, 7, 7), 4, C), b.node("ReduceMax", same, keepdims=0))
    b.output(b.bn(y, C))
    model = b.model()
    folded, plan = fold_model(model)
    assert folded == model
    assert plan.kept


def test_sparse_initializer():
    b = Builder()
    w = b.rng.normal(size=(C, 4, 3, 3)).astype(np.float32)
    w[np.abs(w) < 0.5] = 0
    b.output(b.bn(b.node("Conv", b.input("N", 4, 7, 7), b.const(w, "w")), C))
    model = b.model()
    del model.graph.initializer[0]
    model.graph.sparse_initializer.append(sparse(w, "w"))
    folded, _ = fold_model(model)
    assert count(folded) == 0
    assert not folded.graph.sparse_initializer
    b = Builder()
    b.const(w, "w")
    assert_same_function(model, folded)


def test_parameters_shared_through_identity():
    b = Builder()
    parameters = [b.const(v) for v in b.statistics(C)]
    x = b.input("N", 4, 9, 9)
    y = b.node("BatchNormalization", b.conv(x, 4, C), *parameters)
    shared = [b.node("Identity", name) for name in parameters]
    b.output(b.node("BatchNormalization", b.conv(b.node("Relu", y), C, C), *shared))
    check_folds(b.model())


@pytest.mark.parametrize("opset", [9, 11])
def test_external_data(tmp_path, opset):
    b = Builder(opset)
    b.output(b.bn(b.conv(b.input(2, 4, 7, 7), 4, C), C))
    model = b.model()
    path = tmp_path / "model.onnx"
    onnx.save(
        onnx.ModelProto.FromString(model.SerializeToString()),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    loaded = load(path)
    apply_plan(make_plan(loaded), loaded)
    stream = io.BytesIO()
    write_to(loaded, stream)
    folded = onnx.ModelProto.FromString(stream.getvalue())
    assert count(folded) == 0
    assert_same_function(model, folded)


# What is not constant


def test_weight_that_is_random():
    model = with_weight(lambda b, w: b.node("RandomNormal", shape=w.shape, seed=1.0))
    plan = make_plan(load(model.SerializeToString()))
    assert plan.kept[0].reason is Reason.NOT_CONSTANT


@pytest.mark.parametrize("op", ["Mul", "Add"])
def test_weight_that_depends_on_an_input(op):
    model = with_weight(lambda b, w: b.node(op, b.const(w), b.input(name="gain")))
    check_kept(model, Reason.NOT_CONSTANT)


def test_weight_of_an_operator_of_another_domain():
    b = Builder()
    b.extra_opsets.append(helper.make_opsetid("com.example", 1))
    w = b.node("Identity", b.normal(C, 4, 3, 3), domain="com.example")
    b.output(b.bn(b.node("Conv", b.input(2, 4, 7, 7), w), C), (2, C, 5, 5))
    check_kept(b.model(), Reason.NOT_CONSTANT)


def test_weight_that_a_branch_chooses():
    b = Builder()
    condition = b.input(name="condition", elem_type=TensorProto.BOOL)
    graphs = {}
    for name in ("then", "else"):
        w = b.normal(C, 4, 3, 3)
        info = helper.make_tensor_value_info(f"{name}_w", 1, None)
        node = helper.make_node("Identity", [w], [f"{name}_w"])
        graphs[f"{name}_branch"] = helper.make_graph([node], name, [], [info])
    w = b.node("If", condition, **graphs)
    b.output(b.bn(b.node("Conv", b.input(2, 4, 7, 7), w), C))
    check_kept(b.model(), Reason.NOT_CONSTANT)


@pytest.mark.parametrize("op", ["Identity", "Transpose"])
def test_computed_from_what_a_caller_may_override(op):
    def make(b, w):
        name = b.const(w if op == "Identity" else w.transpose(3, 2, 1, 0), "w")
        b.inputs.append(helper.make_tensor_value_info(name, b.elem_type, b.initializers[0].dims))
        return b.node(op, name)

    model = with_weight(make)
    check_kept(model, Reason.OVERRIDABLE, tensor="w")
    assert count(fold_model(model, assume_constant=True)[0]) == 0


def test_operator_that_fails_on_its_constants():
    model = with_weight(lambda b, w: b.node("Reshape", b.const(w), b.const(np.array([5, -1]))))
    plan = make_plan(load(model.SerializeToString()))
    assert plan.kept[0].reason is Reason.NOT_CONSTANT


def test_asking_again_costs_nothing():
    """A long chain of operators that depend on an input is not walked for each of them."""
    b = Builder()
    x = b.input("N", C)
    for _ in range(2000):
        x = b.node("Add", x, x)
    b.output(x)
    network = __import__("normswap.graph.build", fromlist=["x"]).build_network(
        load(b.model().SerializeToString())
    )
    nodes = network.graphs[0].nodes
    with pytest.raises(Blocked, match="computed at run time"):
        evaluate.constant_source(nodes[-1].out)
    assert all(node.out.varies_with is not None for node in nodes)

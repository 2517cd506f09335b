"""A constant that is not finite: its layer stays, its words name it, others fold."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.cli import invoke
from support.folding import check_folds, check_kept, count, fold_model

from normswap.graph.reasons import Reason

C = 6
BAD = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])


def spoilt(b, shape, bad, index, name="spoilt"):
    values = b.rng.uniform(0.5, 1.5, shape)
    values[index] = bad
    return b.const(values, name)


def x(b, channels=4):
    return b.input("N", channels, 7, 7)


def keeps(b, y, index, count=1, shape=("N", C, None, None)):
    """Assert that a normalization stays, and that the words name what is not finite."""
    b.output(y, shape)
    plan = check_kept(b.model(), Reason.NON_FINITE)
    (entry,) = plan.kept
    details = [entry.detail, *(attempt.detail for attempt in entry.attempts)]
    words = f"spoilt has {count} value{'s' * (count > 1)} that"
    assert any(words in detail and f"index {index}" in detail for detail in details), details


@BAD
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_weight_of_conv(dtype, bad):
    b = Builder(17, dtype)
    w = spoilt(b, (C, 4, 3, 3), bad, (1, 2, 0, 1))
    keeps(b, b.bn(b.node("Conv", x(b), w), C), (1, 2, 0, 1))


def test_bfloat16():
    b = Builder(22, "bfloat16")
    w = spoilt(b, (C, 4, 3, 3), np.nan, (1, 2, 0, 1))
    keeps(b, b.bn(b.node("Conv", x(b), w), C), (1, 2, 0, 1))


def test_all_are_counted():
    b = Builder()
    w = spoilt(b, (C, 4, 3, 3), np.nan, (slice(2, 4), 0, 0, 0))
    keeps(b, b.bn(b.node("Conv", x(b), w), C), (2, 0, 0, 0), 2)


@BAD
def test_bias_of_conv(bad):
    b = Builder()
    keeps(b, b.bn(b.node("Conv", x(b), b.normal(C, 4, 3, 3), spoilt(b, (C,), bad, 3)), C), 3)


@BAD
def test_weight_that_the_route_would_not_edit(bad):
    """A shift goes into the bias alone, a scale past a Relu into the next Conv."""
    b = Builder()
    w = spoilt(b, (C, 4, 3, 3), bad, (0, 0, 1, 2))
    stats = (np.ones(C), b.rng.normal(size=C), np.zeros(C), np.ones(C))
    y = b.bn(b.node("Conv", x(b), w), C, stats=stats, epsilon=0.0)
    keeps(b, y, (0, 0, 1, 2))


def test_weight_before_a_relu_and_another_conv():
    b = Builder()
    w = spoilt(b, (C, 4, 3, 3), np.nan, (0, 0, 1, 2))
    y = b.node("Relu", b.bn(b.node("Conv", x(b), w), C, positive=True))
    keeps(b, b.conv(y, C, 3), (0, 0, 1, 2), shape=("N", 3, None, None))


@BAD
@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
def test_matrix(op, bad):
    b = Builder()
    w = spoilt(b, (5, C), bad, (4, 1))
    keeps(b, b.bn(b.node(op, b.input("N", 5), w), C), (4, 1), shape=("N", C))


@BAD
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_on_the_route(op, bad):
    b = Builder()
    k = spoilt(b, (C, 1, 1), bad, (2, 0, 0))
    y = b.node(op, b.conv(x(b), 4, C), k)
    b.output(b.bn(y, C), ("N", C, None, None))
    plan = check_kept_all(b.model())
    details = [d for e in plan.kept for d in (e.detail, *(a.detail for a in e.attempts))]
    assert any("spoilt has 1 value" in d and "index (2, 0, 0)" in d for d in details), details


def check_kept_all(model):
    folded, plan = fold_model(model)
    assert folded == model
    assert not plan.folded
    return plan


@BAD
@pytest.mark.parametrize("which", range(4), ids=["scale", "B", "mean", "var"])
def test_parameters(which, bad):
    b = Builder()
    stats = [b.const(v) for v in b.statistics(C)]
    stats[which] = spoilt(b, (C,), bad, 1)
    y = b.node("BatchNormalization", b.conv(x(b), 4, C), *stats)
    keeps(b, y, 1)


@BAD
def test_normalization_that_is_arithmetic(bad):
    b = Builder()
    y = b.node("Mul", b.conv(x(b), 4, C), spoilt(b, (C, 1, 1), bad, (5, 0, 0)))
    keeps(b, b.node("Add", y, b.normal(C, 1, 1)), (5, 0, 0))


def test_in_front_of_a_conv():
    b = Builder()
    y = b.bn(x(b), 4)
    w = spoilt(b, (C, 4, 3, 3), np.nan, (1, 2, 0, 1))
    keeps(b, b.node("Conv", y, w), (1, 2, 0, 1))


def test_quantized_weight_with_a_scale_that_is_nan():
    b = Builder()
    b.initializers.append(numpy_helper.from_array(np.ones((C, 4, 3, 3), np.int8), "q"))
    w = b.node("DequantizeLinear", "q", spoilt(b, (C,), np.nan, 4), axis=0)
    keeps(b, b.bn(b.node("Conv", x(b), w), C), 4)


def test_quantized_weight_with_a_nan_of_8_bits():
    b = Builder(19)
    values = np.ones(C * 4 * 9)
    values[7] = np.nan
    tensor = helper.make_tensor("spoilt", TensorProto.FLOAT8E4M3FN, (C, 4, 3, 3), values)
    b.initializers.append(tensor)
    w = b.node("DequantizeLinear", "spoilt", b.const(np.ones(C)), axis=0)
    keeps(b, b.bn(b.node("Conv", x(b), w), C), (0, 0, 2, 1))


def test_computed_constant():
    b = Builder()
    w = b.node("Mul", spoilt(b, (C, 4, 3, 3), np.nan, (1, 2, 0, 1)), b.normal(C, 1, 1, 1))
    b.output(b.bn(b.node("Conv", x(b), w), C))
    plan = check_kept(b.model(), Reason.NON_FINITE)
    assert "index (1, 2, 0, 1)" in plan.kept[0].detail


def test_branch_beside():
    b = Builder()
    source = b.node("Sigmoid", x(b, C))
    w = spoilt(b, (C, C, 3, 3), np.nan, (0, 0, 1, 1))
    y = b.node("Add", b.node("Conv", source, w, pads=[1] * 4), b.bn(source, C))
    b.output(y, ("N", C, None, None))
    plan = check_kept_all(b.model())
    assert Reason.NON_FINITE in {a.reason for a in plan.kept[0].attempts}


def test_in_a_branch_and_in_a_function():
    b = Builder()
    w = spoilt(b, (C, 4, 3, 3), np.nan, (1, 0, 0, 0))
    condition = b.input(name="condition", elem_type=TensorProto.BOOL)
    x(b)
    graphs = {}
    for name, weight in (("then", w), ("else", b.normal(C, 4, 3, 3))):
        outer, b.nodes = b.nodes, []
        y = b.bn(b.node("Conv", "x", weight), C)
        info = helper.make_tensor_value_info(y, 1, None)
        graphs[f"{name}_branch"] = helper.make_graph(b.nodes, name, [], [info])
        b.nodes = outer
    b.output(b.node("If", condition, **graphs))
    folded, plan = fold_model(b.model())
    assert count(folded) == 1
    (kept,) = plan.kept
    assert kept.reason is Reason.NON_FINITE
    assert "spoilt has 1 value" in kept.detail


def test_elsewhere_it_stops_nothing():
    b = Builder()
    y = b.node("Relu", b.bn(b.conv(x(b), 4, C), C))
    y = b.node("Conv", y, spoilt(b, (C, C, 3, 3), np.nan, (0, 0, 0, 0)))
    b.output(b.node("Sigmoid", y), ("N", C, None, None))
    folded, plan = fold_model(b.model())
    assert count(folded) == 0
    assert not plan.kept


def test_a_mask_of_minus_infinity_stops_nothing():
    b = Builder()
    y = b.bn(b.conv(x(b), 4, C), C)
    mask = np.zeros((5, 5))
    mask[np.triu_indices(5, 1)] = -np.inf
    b.output(b.node("Softmax", b.node("Add", y, b.const(mask))), ("N", C, 5, 5))
    check_folds(b.model())


def test_external_data(tmp_path):
    b = Builder()
    w = spoilt(b, (C, 4, 3, 3), np.nan, (1, 2, 0, 1))
    b.output(b.bn(b.node("Conv", x(b), w), C))
    path = tmp_path / "model.onnx"
    onnx.save(b.model(), path, save_as_external_data=True, location="w", size_threshold=0)
    result = invoke("fold", path, "-o", tmp_path / "new.onnx", "--no-check")
    assert result.code == 0
    assert "non-finite" in result.text
    words = "spoilt has 1 value that is not finite: at index (1, 2, 0, 1) it is NaN"
    assert words in " ".join(result.text.split())


@pytest.mark.parametrize("leftover", ["affine", "normalize"])
def test_what_stays_keeps_its_form(leftover):
    b = Builder()
    stats = [b.const(v) for v in b.statistics(C)]
    stats[2] = spoilt(b, (C,), np.inf, 1)
    y = b.node("BatchNormalization", b.node("Softmax", x(b, C)), *stats)
    b.output(y)
    check_kept(b.model(), Reason.NON_FINITE, leftover=leftover)

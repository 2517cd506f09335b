"""Factors so small that their type has too few digits: kept; what only looks like that: folded."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, numpy_helper
from support.build import Builder
from support.folding import assert_same_function, check_folds, check_kept, count, fold_model, run
from support.swapping import swap_model

from normswap.dtypes import NUMPY_DTYPES, round_to
from normswap.graph.extremes import extremes
from normswap.graph.precision import lost_digits
from normswap.graph.reasons import Reason

C = 6
TINY = {"float16": 1e-6, "bfloat16": 1e-38, "float32": 1e-38, "float64": 1e-308}


def stats(scale, channels=C):
    """Statistics that are a scale and nothing else."""
    return np.full(channels, scale), np.zeros(channels), np.zeros(channels), np.ones(channels)


def tiny(b, y, scale, channels=C):
    return b.bn(y, channels, stats=stats(scale, channels), epsilon=0.0)


def halves(*shape):
    """A half-precision network and its input."""
    b = Builder(17, "float16")
    return b, b.input(*shape)


# Kept


@pytest.mark.parametrize("dtype", TINY)
def test_every_type(dtype):
    b = Builder(17, dtype)
    w = b.const(b.rng.uniform(-0.1, 0.1, (C, 4, 3, 3)), "w")
    b.output(tiny(b, b.node("Conv", b.input("N", 4, 7, 7), w), TINY[dtype]))
    plan = check_kept(b.model(), Reason.UNDERFLOW, tensor="w")
    assert f"{dtype} has too few digits for the new w" in plan.kept[0].detail
    assert "rounding would change its values by up to" in plan.kept[0].detail


def test_bytes_times_a_scale():
    """Bytes of an image, and a result of ordinary size: float16 has few digits for what is between.

    Folded, it would be 2.5 % off, where the original is within 0.05 %.
    """
    b = Builder(17, "float16")
    y = b.node("Cast", b.input(2, 4, 5, 5, elem_type=TensorProto.UINT8), to=TensorProto.FLOAT16)
    y = b.node("Conv", y, b.const(b.rng.uniform(-1, 1, (4, 4, 1, 1))))
    b.output(b.bn(y, 4, stats=stats(1e-6, 4), epsilon=1e-5))
    check_kept(b.model(), Reason.UNDERFLOW)


def test_what_is_flushed_to_zero():
    b, x = halves("N", 4, 7, 7)
    b.output(tiny(b, b.node("Conv", x, b.const(b.rng.uniform(-0.01, 0.01, (C, 4, 1, 1)))), 1e-6))
    plan = check_kept(b.model(), Reason.UNDERFLOW)
    assert "by up to 100.00%" in plan.kept[0].detail


def test_one_output_channel():
    b, x = halves("N", 4, 7, 7)
    scale = np.ones(C)
    scale[2] = 1e-6
    y = b.conv(x, 4, C)
    parameters = (scale, *stats(1.0)[1:])
    b.output(b.bn(y, C, stats=parameters, epsilon=0.0))
    check_kept(b.model(), Reason.UNDERFLOW)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_down(kernel):
    b, x = halves("N", C, 7, 7)
    b.output(b.conv(tiny(b, x, 1e-6), C, 4, kernel=kernel), ("N", 4, None, None))
    plan = check_kept(b.model(), Reason.UNDERFLOW)
    assert plan.kept[0].reason is Reason.UNDERFLOW  # and not that x is an input


def test_one_input_channel():
    """Its values may be large, as the small scale suggests, so it is judged by itself."""
    b, x = halves("N", C, 7, 7)
    scale = np.ones(C)
    scale[4] = 1e-6
    y = b.bn(x, C, stats=(scale, *stats(1.0)[1:]), epsilon=0.0)
    b.output(b.conv(y, C, 4), ("N", 4, None, None))
    check_kept(b.model(), Reason.UNDERFLOW)


@pytest.mark.parametrize("op", ["Gemm", "MatMul", "ConvTranspose", "Mul", "Div"])
def test_other_operators(op):
    b = Builder(17, "float16")
    if op in {"Gemm", "MatMul"}:
        y = b.node(op, b.input("N", 5), b.normal(5, C))
    elif op == "ConvTranspose":
        y = b.node(op, b.input("N", 4, 7, 7), b.normal(4, C, 3, 3))
    else:
        y = b.node(
            op,
            *(b.input("N", C, 7, 7), b.const(b.rng.uniform(0.5, 2, (C, 1, 1))))[
                :: 1 if op == "Mul" else -1
            ],
        )
    b.output(tiny(b, y, 1e-6))
    check_kept(b.model(), Reason.UNDERFLOW)


def test_scale_of_another_normalization():
    b, x = halves("N", C, 7, 7)
    y = b.node("InstanceNormalization", x, b.normal(C), b.normal(C))
    b.output(tiny(b, y, 1e-6))
    check_kept(b.model(), Reason.UNDERFLOW)


def test_scale_of_a_quantized_weight():
    b = Builder()
    q = b.rng.integers(-127, 127, (C, 4, 3, 3)).astype(np.int8)
    b.initializers.append(numpy_helper.from_array(q, "q"))
    w = b.node("DequantizeLinear", "q", b.const(b.rng.uniform(0.01, 0.1, C)), axis=0)
    b.output(tiny(b, b.node("Conv", b.input("N", 4, 7, 7), w), 1e-38))
    check_kept(b.model(), Reason.UNDERFLOW)


def test_branches_are_not_merged_into_too_few_digits():
    b = Builder(17, "float16")
    x = b.node("Sigmoid", b.input("N", C, 7, 7))
    w = b.const(b.rng.uniform(-1, 1, (C, C, 1, 1)) * 2e-7)
    # All that the sum is made of is as small, so the digits would be lost to the whole of it.
    parameters = (np.full(C, 1e-6), np.zeros(C), np.zeros(C), np.full(C, 7.0))
    y = b.node("Add", b.node("Conv", x, w), b.bn(x, C, stats=parameters, epsilon=0.0))
    b.output(y, ("N", C, None, None))
    model = b.model()
    folded, plan = fold_model(model)
    assert folded == model
    assert Reason.UNDERFLOW in {a.reason for a in plan.kept[0].attempts}


def test_what_stays_is_not_written_with_fewer_digits():
    b, x = halves("N", C, 7, 7)
    parameters = (np.full(C, 1e-4), np.zeros(C), np.zeros(C), np.full(C, 1e4))
    y = b.bn(b.node("Softmax", x), C, stats=parameters, epsilon=0.0)
    b.output(b.node("Sigmoid", y), ("N", C, 7, 7))
    for form in ("affine", "normalize"):
        check_kept(b.model(), Reason.OPERATOR, leftover=form)


def test_a_swapped_layer_takes_in_no_scale_that_loses_digits():
    b, x = halves("N", 8, 7, 7)
    y = b.bn(x, 8, name="bn", epsilon=1e-5)
    b.output(b.node("Mul", y, b.const(np.full((8, 1, 1), 2e-7))), ("N", 8, 7, 7))
    _, plan = swap_model(b.model(), 2)
    assert plan.swaps[0].absorbed == ()


# Folded


def test_elements_that_are_tiny_by_nature():
    b = Builder(17, "float16")
    w = b.rng.normal(size=(C, 16, 3, 3)) * 0.1
    w[b.rng.random(w.shape) < 0.2] *= 1e-5
    b.output(b.bn(b.node("Conv", b.input("N", 16, 7, 7), b.const(w)), C), ("N", C, None, None))
    check_folds(b.model())


def test_dead_channels():
    """Channels that training has brought down to nothing: 1e-40 beside 1."""
    b = Builder()
    w = b.rng.normal(size=(C, 4, 3, 3))
    w[2] *= 1e-40
    w[:, 1] *= 1e-41
    y = b.node("Conv", b.input("N", 4, 7, 7), b.const(w))
    b.output(b.bn(y, C), ("N", C, None, None))
    check_folds(b.model())


def test_biases_have_the_digits_of_what_they_are_added_to():
    b = Builder(17, "float16")
    y = b.node("Conv", b.input("N", 4, 7, 7), b.normal(C, 4, 3, 3), b.const(np.full(C, 3e-7)))
    b.output(b.bn(y, C, stats=stats(0.7), epsilon=0.0), ("N", C, None, None))
    check_folds(b.model())


def test_powers_of_two_lose_nothing():
    b = Builder(17, "float16")
    w = b.const(b.rng.choice([-2.0, -1.0, 0.5, 1.0, 3.0], (C, 4, 3, 3)))
    y = b.node("Conv", b.input("N", 4, 7, 7), w)
    b.output(tiny(b, y, 2.0**-20), ("N", C, None, None))
    check_folds(b.model())


def test_a_scale_of_zero_loses_nothing():
    b = Builder(17, "float16")
    scale = np.array([1.0, 0, 0, -2.0, 0, 0.5])
    y = b.bn(b.conv(b.input("N", 4, 7, 7), 4, C), C, stats=(scale, *stats(1.0)[1:]))
    b.output(y, ("N", C, None, None))
    check_folds(b.model())


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("exponent", range(-6, 3))
def test_around_the_limit_what_folds_is_within_rounding(dtype, exponent):
    """Some fold and some don't; none that folds is off by more than a few roundings."""
    b = Builder(17, dtype)
    x = b.input(2, 4, 7, 7)
    w = b.const(b.rng.uniform(0.5, 1, (C, 4, 3, 3)))
    info = np.finfo(b.np_dtype)
    scale = float(info.tiny) * 2.0**exponent * 1.1
    b.output(b.bn(b.node("Conv", x, w), C, stats=stats(scale), epsilon=0.0))
    model = b.model()
    folded, _ = fold_model(model)
    feeds = {"x": (b.rng.uniform(100, 200, (2, 4, 7, 7))).astype(b.np_dtype)}
    want, got = (run(m, feeds)[0].astype(np.float64) for m in (model, folded))
    assert np.abs(got - want).max() <= 8 * float(info.eps) * np.abs(want).max()
    assert exponent > -4 or count(folded) == 1
    assert exponent < 1 or count(folded) == 0


def test_other_reasons_are_told_first():
    b, x = halves("N", 4, 7, 7)
    y = b.conv(x, 4, C)
    b.output(tiny(b, y, 1e-6)).output(y)
    plan = fold_model(b.model())[1]
    assert plan.kept[0].reason is Reason.GRAPH_OUTPUT


def test_the_rest_of_a_network_still_folds():
    b, x = halves("N", 4, 7, 7)
    y = tiny(b, b.conv(x, 4, C, bias=False), 1e-6)
    y = b.bn(b.conv(b.node("Sigmoid", y), C, C), C)
    b.output(y, ("N", C, None, None))
    model = b.model()
    folded, plan = fold_model(model)
    assert count(folded) == 1
    assert [entry.reason for entry in plan.kept] == [Reason.UNDERFLOW]
    assert_same_function(model, folded)


# The measure


TYPES = [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE]


@pytest.mark.parametrize("data_type", TYPES)
def test_normal_numbers_lose_nothing(data_type):
    rng = np.random.default_rng(0)
    info = ml_dtypes.finfo(NUMPY_DTYPES[data_type])
    factors = rng.uniform(1, 2, (5, 4, 3)).astype(np.longdouble) * np.longdouble(info.tiny)
    assert lost_digits(factors, data_type) is None
    assert lost_digits(np.zeros((2, 3), np.longdouble), data_type) is None
    assert lost_digits(np.zeros((0, 3), np.longdouble), data_type) is None


@pytest.mark.parametrize("data_type", TYPES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_along_any_axis(data_type, axis):
    rng = np.random.default_rng(1)
    tiny = np.longdouble(ml_dtypes.finfo(NUMPY_DTYPES[data_type]).tiny)
    factors = rng.uniform(1, 2, (5, 4, 3)).astype(np.longdouble) * tiny * 4
    slices = [slice(None)] * 3
    slices[axis] = 1
    factors[tuple(slices)] /= 256
    part = factors[tuple(slices)]
    error = np.abs(round_to(factors, data_type).astype(np.longdouble) - factors)[tuple(slices)]
    assert lost_digits(factors, data_type) == pytest.approx(float(error.sum() / part.sum()))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_the_extremes_of_magnitudes(dtype):
    rng = np.random.default_rng(2)
    values = rng.normal(size=(300, 400)).astype(dtype)
    values[rng.random(values.shape) < 0.3] = 0
    values[3, 5] = -1e-7
    wide = np.abs(values.astype(np.float64))
    assert extremes(values) == (wide[wide > 0].min(), wide.max())
    assert extremes(np.zeros(5, dtype)) == (np.inf, 0)
    assert extremes(-np.zeros(5, dtype)) == (np.inf, 0)
    assert extremes(np.zeros(0, dtype)) == (np.inf, 0)
    assert extremes(values.T) == extremes(values)
    values[0, 0] = np.nan  # of the first piece that is looked at, and not of the last
    assert np.isnan(extremes(values)[1])


def test_the_extremes_of_long_doubles():
    values = np.array([0, -3, 2, 0], np.longdouble)
    assert extremes(values) == (2, 3)
    assert extremes(values * 0) == (np.inf, 0)

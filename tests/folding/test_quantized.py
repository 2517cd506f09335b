"""Weights behind DequantizeLinear: scaled without a rounding of their integers, or kept."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.folding import check_folds, check_kept, count
from support.graphs import live_ops

from normswap.graph.reasons import Reason

C = 6


def raw(b, array, data_type=None):
    """An initializer that keeps the type of its values."""
    name = b.name("q")
    if data_type is None:
        b.initializers.append(numpy_helper.from_array(array, name))
    else:
        b.initializers.append(helper.make_tensor(name, data_type, array.shape, array.reshape(-1)))
    return name


def quantized(b, shape, *, axis=None, zero_point=False, dtype=np.int8, low=-127, high=127, **attrs):
    """A weight behind DequantizeLinear."""
    q = b.rng.integers(low, high, shape, endpoint=True).astype(dtype)
    channels = () if axis is None else (shape[axis],)
    inputs = [raw(b, q), b.const(b.rng.uniform(0.01, 0.1, channels))]
    if zero_point or dtype == np.uint8:
        inputs.append(raw(b, np.full(channels, 128 if dtype == np.uint8 else 0, dtype)))
    if axis is not None:
        attrs["axis"] = axis
    return b.node("DequantizeLinear", *inputs, **attrs)


def end(b, y, channels=C):
    b.output(b.bn(y, channels))
    return b.model()


def tensors(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.mark.parametrize("axis", [0, None])
@pytest.mark.parametrize("zero_point", [False, True])
@pytest.mark.parametrize("opset", [13, 17, 19, 21, 23])
def test_conv(axis, zero_point, opset):
    b = Builder(opset)
    w = quantized(b, (C, 4, 3, 3), axis=axis, zero_point=zero_point)
    model = end(b, b.node("Conv", b.input("N", 4, 7, 7), w, b.normal(C)))
    folded, plan = check_folds(model)
    assert live_ops(folded) == ["DequantizeLinear", "Conv"]
    (stored,) = [t for t in tensors(folded).values() if t.dtype == np.int8 and t.ndim == 4]
    (before,) = [t for t in tensors(model).values() if t.dtype == np.int8 and t.ndim == 4]
    assert (np.abs(stored) == np.abs(before)).all()  # signs change, and nothing else
    assert [step.op for step in plan.folded[0].route] == ["Conv"]


@pytest.mark.parametrize("axis", [0, None])
def test_unsigned(axis):
    b = Builder()
    w = quantized(b, (C, 4, 3, 3), axis=axis, dtype=np.uint8, low=1, high=255)
    check_folds(end(b, b.node("Conv", b.input("N", 4, 7, 7), w)))


@pytest.mark.parametrize("group", [2, 4])
def test_grouped_conv(group):
    b = Builder()
    w = quantized(b, (8, 4 // group, 3, 3), axis=0)
    check_folds(end(b, b.node("Conv", b.input("N", 4, 7, 7), w, group=group), 8))


def test_conv_transpose():
    b = Builder()
    w = quantized(b, (4, C, 3, 3), axis=1)
    check_folds(end(b, b.node("ConvTranspose", b.input("N", 4, 7, 7), w)))


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("per_channel", [False, True])
def test_gemm(transposed, per_channel):
    b = Builder()
    shape, axis = ((C, 5), 0) if transposed else ((5, C), 1)
    w = quantized(b, shape, axis=axis if per_channel else None)
    y = b.node("Gemm", b.input("N", 5), w, b.normal(C), transB=transposed, alpha=0.5, beta=2.0)
    check_folds(end(b, y))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_matmul(per_channel, transposed):
    b = Builder()
    shape, axis = ((C, 5), 0) if transposed else ((5, C), 1)
    w = quantized(b, shape, axis=axis if per_channel else None)
    if transposed:
        w = b.node("Transpose", w, perm=[1, 0])
    y = b.node("Add", b.node("MatMul", b.input("N", 5), w), b.normal(C))
    folded, _ = check_folds(end(b, y))
    assert count(folded, "Transpose") == transposed


def test_batchnorm_in_front():
    b = Builder()
    w = quantized(b, (C, 4, 1, 1), axis=None)
    x = b.bn(b.input("N", 4, 7, 7), 4)
    b.output(b.node("Conv", x, w))
    check_folds(b.model())


def test_batchnorm_in_front_of_scales_per_output_channel():
    b = Builder()
    w = quantized(b, (C, 4, 1, 1), axis=0)
    b.output(b.node("Conv", b.bn(b.input("N", 4, 7, 7), 4), w))
    check_kept(b.model(), Reason.QUANTIZED_WEIGHT)


def test_shared_weight_is_doubled():
    b = Builder()
    x, w = b.input("N", 4, 7, 7), quantized(b, (C, 4, 3, 3), axis=0)
    for _ in range(2):
        b.output(b.bn(b.node("Conv", x, w), C))
    b.output(b.node("Conv", x, w))
    folded, _ = check_folds(b.model())
    assert count(folded, "DequantizeLinear") == 3


@pytest.mark.parametrize("bits", ["int4", "uint4"])
def test_four_bits(bits):
    b = Builder(21)
    low, zero = (-7, 0) if bits == "int4" else (1, 8)
    q = b.rng.integers(low, low + 14, (C, 4, 3, 3), endpoint=True)
    kind = TensorProto.INT4 if bits == "int4" else TensorProto.UINT4
    inputs = [raw(b, q, kind), b.const(b.rng.uniform(0.1, 1, C))]
    inputs.append(raw(b, np.full(C, zero), kind))
    w = b.node("DequantizeLinear", *inputs, axis=0)
    check_folds(end(b, b.node("Conv", b.input("N", 4, 7, 7), w)))


def test_eight_bit_floats():
    b = Builder(19)
    q = b.rng.normal(size=(C, 4, 3, 3)).astype(ml_dtypes.float8_e4m3fn)
    inputs = [raw(b, q), b.const(b.rng.uniform(0.1, 1, C))]
    w = b.node("DequantizeLinear", *inputs, axis=0)
    check_folds(end(b, b.node("Conv", b.input("N", 4, 7, 7), w)))


@pytest.mark.parametrize("size", [8, 6])
def test_blocks_along_the_inputs(size):
    b = Builder(21)
    q = b.rng.integers(-127, 127, (C, size)).astype(np.int8)
    inputs = [raw(b, q), b.const(b.rng.uniform(0.1, 1, (C, 2)))]
    w = b.node("DequantizeLinear", *inputs, axis=1, block_size=4 if size == 8 else 3)
    check_folds(end(b, b.node("Gemm", b.input("N", size), w, transB=1)))


def test_blocks_along_the_outputs_are_kept():
    b = Builder(21)
    q = b.rng.integers(-127, 127, (8, C)).astype(np.int8)
    inputs = [raw(b, q), b.const(b.rng.uniform(0.1, 1, (8, 2)))]
    w = b.node("DequantizeLinear", *inputs, axis=1, block_size=3)
    b.output(b.bn(b.node("Gemm", b.input("N", 8), w), C))
    check_kept(b.model(), Reason.QUANTIZED_WEIGHT)


def test_fake_quantization_of_a_float_weight():
    b = Builder()
    scale, zero = b.const(np.asarray(0.02)), raw(b, np.zeros((), np.int8))
    w = b.node("QuantizeLinear", b.const(b.rng.uniform(-2, 2, (C, 4, 3, 3))), scale, zero)
    w = b.node("DequantizeLinear", w, scale, zero)
    check_folds(end(b, b.node("Conv", b.input("N", 4, 7, 7), w)))


# Signs


def test_minus_128_has_no_negative():
    b = Builder()
    q = b.rng.integers(-127, 127, (C, 4, 3, 3)).astype(np.int8)
    q[1, 2, 0, 0] = -128
    stats = list(b.statistics(C, positive=True))
    stats[0][1] *= -1
    inputs = [raw(b, q), b.const(b.rng.uniform(0.1, 1, C))]
    y = b.node("Conv", b.input("N", 4, 7, 7), b.node("DequantizeLinear", *inputs, axis=0))
    b.output(b.bn(y, C, stats=stats))
    check_kept(b.model(), Reason.QUANTIZED_WEIGHT)


def test_minus_128_stays_where_nothing_is_negated():
    b = Builder()
    q = np.full((C, 4, 3, 3), -128, np.int8)
    inputs = [raw(b, q), b.const(b.rng.uniform(0.1, 1, C))]
    y = b.node("Conv", b.input("N", 4, 7, 7), b.node("DequantizeLinear", *inputs, axis=0))
    b.output(b.bn(y, C, stats=b.statistics(C, positive=True)))
    check_folds(b.model())


def test_zero_around_128_has_no_negative():
    b = Builder()
    w = quantized(b, (C, 4, 3, 3), axis=0, dtype=np.uint8, low=0, high=0)
    check_kept(end(b, b.node("Conv", b.input("N", 4, 7, 7), w)), Reason.QUANTIZED_WEIGHT)


def test_one_scale_before_opset_13():
    b = Builder(11)
    w = quantized(b, (C, 4, 3, 3))
    check_kept(end(b, b.node("Conv", b.input("N", 4, 7, 7), w)), Reason.QUANTIZED_WEIGHT)


def test_one_scale_before_opset_13_takes_one_factor():
    b = Builder(11)
    w = quantized(b, (C, 4, 3, 3))
    y = b.node("Conv", b.input("N", 4, 7, 7), w)
    stats = (np.full(C, 1.5), b.rng.normal(size=C), np.zeros(C), np.ones(C))
    b.output(b.bn(y, C, stats=stats))
    check_folds(b.model())


def test_grouped_conv_transpose_would_need_scales_along_two_axes():
    b = Builder()
    w = quantized(b, (4, C // 2, 3, 3), axis=1)
    y = b.node("ConvTranspose", b.input("N", 4, 7, 7), w, group=2)
    check_kept(end(b, y), Reason.QUANTIZED_WEIGHT)


# Biases


def conv_with_int32_bias(b, stats):
    w = quantized(b, (C, 4, 3, 3), axis=0)
    bias = raw(b, b.rng.integers(-1000, 1000, C).astype(np.int32))
    bias = b.node("DequantizeLinear", bias, b.const(b.rng.uniform(1e-3, 1e-2, C)), axis=0)
    y = b.node("Conv", b.input("N", 4, 7, 7), w, bias)
    b.output(b.bn(y, C, stats=stats, epsilon=0.0))
    return b.model()


def test_bias_without_a_shift_is_scaled():
    b = Builder()
    stats = (b.rng.normal(size=C), np.zeros(C), np.zeros(C), np.ones(C))
    folded, _ = check_folds(conv_with_int32_bias(b, stats))
    assert count(folded, "DequantizeLinear") == 2


def test_bias_with_a_shift_would_be_rounded():
    b = Builder()
    plan = check_kept(conv_with_int32_bias(b, b.statistics(C)), Reason.QUANTIZED_BIAS)
    assert "bias of Conv" in plan.kept[0].detail


def test_bias_of_a_gemm():
    b = Builder()
    w = quantized(b, (5, C), axis=1)
    bias = raw(b, b.rng.integers(-1000, 1000, C).astype(np.int32))
    bias = b.node("DequantizeLinear", bias, b.const(np.asarray(0.01)))
    y = b.node("Gemm", b.input("N", 5), w, bias, beta=0.5)
    b.output(b.bn(y, C))
    check_kept(b.model(), Reason.QUANTIZED_BIAS)


def test_bias_under_a_batchnorm_in_front():
    b = Builder()
    w = quantized(b, (C, 4, 1, 1))
    bias = raw(b, b.rng.integers(-1000, 1000, C).astype(np.int32))
    bias = b.node("DequantizeLinear", bias, b.const(np.asarray(0.01)))
    b.output(b.node("Conv", b.bn(b.input("N", 4, 7, 7), 4), w, bias))
    check_kept(b.model(), Reason.QUANTIZED_BIAS)


# What is no quantized weight


def test_activation():
    b = Builder()
    x = b.input("N", 4, 7, 7, elem_type=TensorProto.INT8)
    y = b.node("DequantizeLinear", x, b.const(np.asarray(0.1)))
    b.output(b.bn(y, 4))
    check_kept(b.model(), Reason.OPERATOR)


@pytest.mark.parametrize("which", ["q", "scale", "zero point"])
def test_weight_of_the_caller(which):
    b = Builder()
    shape = (C, 4, 3, 3)
    q = b.input(*shape, name="q", elem_type=3) if which == "q" else raw(b, np.ones(shape, np.int8))
    scale = b.input(name="s") if which == "scale" else b.const(np.asarray(0.1))
    zero = (
        b.input(name="z", elem_type=3) if which == "zero point" else raw(b, np.zeros((), np.int8))
    )
    w = b.node("DequantizeLinear", q, scale, zero)
    check_kept(end(b, b.node("Conv", b.input("N", 4, 7, 7), w)), Reason.NOT_CONSTANT)


def test_weight_of_the_outer_graph():
    b = Builder()
    x, w = b.input(2, 4, 7, 7), quantized(b, (C, 4, 3, 3), axis=0)
    condition = b.input(name="condition", elem_type=TensorProto.BOOL)
    outer, b.nodes = b.nodes, []
    y = b.bn(b.node("Conv", x, w), C)
    info = helper.make_tensor_value_info
    then = helper.make_graph(b.nodes, "then", [], [info(y, 1, None)])
    b.nodes = outer
    other = helper.make_graph(
        [onnx.helper.make_node("Conv", [x, w], ["e"])], "else", [], [info("e", 1, None)]
    )
    b.output(b.node("If", condition, then_branch=then, else_branch=other))
    check_kept(b.model(), Reason.OUTER_SCOPE)

"""Every reason to keep is explained, and there is a model that brings it about."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.folding import fold_model

from normswap.graph.reasons import EXPLANATIONS, Reason

C = 6


def conv(b, x=None, **options):
    return b.conv(x or b.input(2, 4, 7, 7), 4, C, **options)


def softmax(b):
    return b.node("Softmax", b.input(2, C, 5, 5), axis=-1)


def training_mode(b):
    parameters = [b.const(v) for v in b.statistics(C)]
    b.output(b.node("BatchNormalization", conv(b), *parameters, outputs=3, training_mode=1)[0])


def used_statistics(b):
    b.opset = 9
    parameters = [b.const(v) for v in b.statistics(C)]
    y, mean = b.node("BatchNormalization", conv(b), *parameters, outputs=5)[:2]
    b.output(y).output(mean, (C,))


def per_activation(b):
    b.opset = 8
    shape = (C, 5, 5)
    parameters = [b.normal(*shape), b.normal(*shape), b.normal(*shape)]
    parameters.append(b.const(b.rng.uniform(1, 2, shape)))
    b.output(b.node("BatchNormalization", conv(b), *parameters, spatial=0))


def not_constant(b):
    b.output(b.bn(b.node("Conv", b.input(2, 4, 7, 7), b.input(C, 4, 3, 3, name="w")), C))


def overridable(b):
    b.output(b.bn(conv(b), C))
    weight = b.initializers[0]
    b.inputs.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))


def invalid_statistics(b):
    scale, bias, mean, var = b.statistics(C)
    b.output(b.bn(conv(b), C, stats=(scale, bias, mean, var - 10)))


def overflow(b):
    b.__init__(17, "float16")
    w = b.const(np.full((C, 4, 1, 1), 300.0))
    stats = (np.full(C, 1e3), np.zeros(C), np.zeros(C), np.ones(C))
    b.output(b.bn(b.node("Conv", b.input(2, 4, 7, 7), w), C, stats=stats))


def underflow(b):
    b.__init__(17, "float16")
    stats = (np.full(C, 1e-6), np.zeros(C), np.zeros(C), np.ones(C))
    b.output(b.bn(conv(b, bias=False), C, stats=stats))


def non_finite(b):
    w = b.const(np.full((C, 4, 1, 1), np.inf))
    b.output(b.bn(b.node("Conv", b.input(2, 4, 7, 7), w), C))


def element_type(b):
    b.opset = 19
    scale = b.initializers.append(
        helper.make_tensor("scale", TensorProto.FLOAT8E4M3FN, (C,), [1.0] * C)
    )
    del scale
    w = b.node("Cast", b.const(np.ones((C, 4, 1, 1))), to=TensorProto.DOUBLE)
    y = b.node("Cast", b.node("Conv", b.node("Cast", b.input(2, 4, 7, 7), to=11), w), to=6)
    b.output(b.bn(b.node("Cast", y, to=1), C))


def graph_input(b):
    b.output(b.bn(b.input(2, C, 5, 5), C))


def graph_output(b):
    y = conv(b)
    b.output(b.bn(y, C)).output(y)


def several_readers(b):
    y = conv(b)
    b.output(b.bn(y, C)).output(b.node("Sigmoid", y))


def no_reader(b):
    b.output(b.node("Sigmoid", b.input(2, C, 5, 5)))
    b.bn(b.inputs[0].name, C)


def branch(b, op, captured):
    condition = b.input(name="condition", elem_type=TensorProto.BOOL)
    graphs = {}
    for name, inner in (("then", op), ("else", "Neg")):
        outer, b.nodes = b.nodes, []
        y = b.bn(captured, C) if inner == "bn" else b.node(inner, captured)
        info = helper.make_tensor_value_info(y, 1, None)
        graphs[f"{name}_branch"] = helper.make_graph(b.nodes, name, [], [info])
        b.nodes = outer
    return b.node("If", condition, **graphs)


def captured(b):
    y = conv(b)
    b.output(b.bn(y, C)).output(branch(b, "Sigmoid", y))


def outer_scope(b):
    b.output(branch(b, "bn", conv(b)))


def quantized(b, low):
    q = numpy_helper.from_array(np.full((C, 4, 3, 3), low, np.int8), "q")
    b.initializers.append(q)
    return b.node("DequantizeLinear", "q", b.const(np.full(C, 0.1)), axis=0)


def quantized_weight(b):
    stats = (np.full(C, -1.0), np.zeros(C), np.zeros(C), np.ones(C))
    b.output(b.bn(b.node("Conv", b.input(2, 4, 7, 7), quantized(b, -128)), C, stats=stats))


def quantized_bias(b):
    b.initializers.append(numpy_helper.from_array(np.ones(C, np.int32), "bias"))
    bias = b.node("DequantizeLinear", "bias", b.const(np.full(C, 0.1)), axis=0)
    b.output(b.bn(b.node("Conv", b.input(2, 4, 7, 7), quantized(b, 1), bias), C))


def no_branch(b):
    x = softmax(b)
    b.output(b.node("Add", b.node("Sigmoid", x), b.bn(x, C)))


def growth(b):
    x, w = b.input(2, 4, 7, 7), b.normal(C, 4, 3, 3)
    b.output(b.bn(b.node("Conv", x, w), C)).output(b.node("Conv", x, w))


def cost(b):
    x = b.input(2, 5)
    y = b.node("Concat", *(b.node("MatMul", x, b.normal(5, 3)) for _ in range(2)), axis=1)
    b.output(b.node("Add", b.node("Mul", y, b.normal(C)), b.normal(C)))


def operator(b):
    b.output(b.bn(softmax(b), C))


def nonlinear(b):
    b.output(b.bn(b.node("Relu", conv(b)), C, positive=True))


def negative_scale(b):
    b.output(b.bn(b.node("MaxPool", conv(b), kernel_shape=[2, 2]), C))


def shift(b):
    y = b.node("Mul", conv(b), b.input(name="gain"))
    b.output(b.bn(y, C))


def scale(b):
    x = softmax(b)
    y = b.node("Add", b.bn(x, C), b.node("Sigmoid", x))
    b.output(b.conv(y, C, 4))


def zero_padding(b):
    x = b.bn(b.input(2, 4, 7, 7), 4)
    b.output(conv(b, x, pads=[1] * 4))


def axis(b):
    y = b.node("Transpose", conv(b, b.input(2, 4, C + 2, 7)), perm=[0, 2, 1, 3])
    b.output(b.bn(y, C))


def shape_unknown(b):
    y = b.node("MatMul", b.input("N", 4, 5), b.normal(5, C))
    y = b.node("Reshape", y, b.input("R", name="shape", elem_type=TensorProto.INT64))
    b.output(b.bn(y, 4), (None, 4, None))


def malformed(b):
    stats = [v[:n] for v, n in zip(b.statistics(C), (C, C, C - 1, C), strict=True)]
    b.output(b.bn(conv(b), C, stats=stats), (2, C, 5, 5))


def constant(b):
    given = [b.const(np.full(4, value)) for value in (1.0, 0.0, 0.0, 1.0)]
    w = b.node("BatchNormalization", b.normal(1, 4, 9), *given, outputs=3, training_mode=1)[0]
    b.output(b.node("Mul", w, b.input(1, 4, 9)))


MODELS = {
    Reason.CONSTANT: constant,
    Reason.TRAINING_MODE: training_mode,
    Reason.USED_STATISTICS: used_statistics,
    Reason.PER_ACTIVATION: per_activation,
    Reason.NOT_CONSTANT: not_constant,
    Reason.OVERRIDABLE: overridable,
    Reason.INVALID_STATISTICS: invalid_statistics,
    Reason.OVERFLOW: overflow,
    Reason.UNDERFLOW: underflow,
    Reason.NON_FINITE: non_finite,
    Reason.ELEMENT_TYPE: element_type,
    Reason.GRAPH_INPUT: graph_input,
    Reason.GRAPH_OUTPUT: graph_output,
    Reason.SEVERAL_READERS: several_readers,
    Reason.NO_READER: no_reader,
    Reason.CAPTURED: captured,
    Reason.OUTER_SCOPE: outer_scope,
    Reason.QUANTIZED_WEIGHT: quantized_weight,
    Reason.QUANTIZED_BIAS: quantized_bias,
    Reason.NO_BRANCH: no_branch,
    Reason.COST: cost,
    Reason.GROWTH: growth,
    Reason.OPERATOR: operator,
    Reason.NONLINEAR: nonlinear,
    Reason.NEGATIVE_SCALE: negative_scale,
    Reason.SHIFT: shift,
    Reason.SCALE: scale,
    Reason.ZERO_PADDING: zero_padding,
    Reason.AXIS: axis,
    Reason.SHAPE_UNKNOWN: shape_unknown,
    Reason.MALFORMED: malformed,
}


OF_SWAPS = {
    Reason.OPSET,
    Reason.EXCLUDED,
    Reason.FOLDABLE,
    Reason.INDIVISIBLE,
    Reason.NO_SAMPLES,
    Reason.NO_ESTIMATE,
    Reason.ORDER,
}
"""Those that no fold gives; ``tests/graph/test_batchnorm.py`` has a model for each but the last
two, for which ``tests/groupnorm/test_opened.py`` and ``tests/permuting/test_traps.py`` have it."""


OPTIONS = {Reason.GROWTH: {"max_growth": 1.1}}


def test_every_reason_has_a_model():
    assert set(MODELS) | OF_SWAPS == set(Reason)
    assert not set(MODELS) & OF_SWAPS


@pytest.mark.parametrize("reason", MODELS)
def test_the_reason_is_given(reason):
    b = Builder()
    MODELS[reason](b)
    model = b.model()
    folded, plan = fold_model(model, **OPTIONS.get(reason, {}))
    assert folded == model
    (kept,) = plan.kept
    told = {kept.reason: kept.detail}
    told |= {attempt.reason: attempt.detail for attempt in kept.attempts}
    assert told[reason], told


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_explained(reason):
    text = reason.explanation
    assert text[0].islower()
    assert not text.endswith(".")
    assert len(text) < 90


def test_identifiers_are_stable():
    assert all(reason.value == reason.name.lower().replace("_", "-") for reason in Reason)
    assert set(EXPLANATIONS) == set(Reason)


def test_negative_channels_are_named():
    b = Builder()
    negative_scale(b)
    plan = fold_model(b.model())[1]
    assert "channels (" in plan.kept[0].detail


def test_the_other_reader_is_named():
    b = Builder()
    several_readers(b)
    plan = fold_model(b.model())[1]
    assert "Sigmoid" in plan.kept[0].detail

import numpy as np
import pytest
from support.build import DTYPES, Builder
from support.folding import check_folds, check_kept, count, fold_model

from normswap.graph.reasons import Reason

KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 2)}
SPATIAL = {1: (9,), 2: (9, 8), 3: (6, 7, 5)}


def conv_bn(b, *, rank=2, c_in=4, c_out=6, dynamic=False, **conv):
    x = b.input("N" if dynamic else 2, c_in, *SPATIAL[rank])
    y = b.conv(x, c_in, c_out, kernel=KERNELS[rank], **conv)
    b.output(b.bn(y, c_out, out="y"))
    return b.model()


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 13, 14, 15, 17, 21, 22, 24])
@pytest.mark.parametrize("bias", [True, False])
def test_folds_at_every_opset(opset, bias):
    folded, plan = check_folds(conv_bn(Builder(opset, seed=opset), bias=bias))
    assert [node.op_type for node in folded.graph.node] == ["Conv"]
    assert [step.op for step in plan.folded[0].route] == ["Conv"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_folds_every_type_and_rank(dtype, rank):
    check_folds(conv_bn(Builder(17, dtype, seed=rank), rank=rank))


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1, 1, 0, 2]},
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
        {"strides": [2, 1]},
        {"dilations": [2, 3], "pads": [1, 1, 1, 1]},
        {"group": 2},
        {"group": 4},
        {"group": 4, "c_out": 8, "strides": [2, 2]},
    ],
    ids=str,
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_folds_with_every_attribute(attributes, dynamic):
    attributes = {"c_out": 4, **attributes}
    check_folds(conv_bn(Builder(), dynamic=dynamic, **attributes))


def test_empty_string_bias():
    b = Builder()
    x = b.input(2, 4, 8, 8)
    y = b.node("Conv", x, b.normal(6, 4, 3, 3), "")
    b.output(b.bn(y, 6))
    folded, _ = check_folds(b.model())
    assert folded.graph.node[0].input[2]


def test_empty_optional_outputs():
    b = Builder(9)
    y = b.conv(b.input(2, 4, 8, 8), 4, 6)
    parameters = [b.const(v) for v in b.statistics(6)]
    b.nodes.append(
        __import__("onnx").helper.make_node(
            "BatchNormalization", [y, *parameters], ["y", "", "", "", ""], name="bn"
        )
    )
    b.output("y")
    folded, plan = fold_model(b.model())
    assert count(folded) == 0
    assert len(plan.folded) == 1


def test_bias_stays_absent_without_a_shift():
    b = Builder()
    y = b.conv(b.input(2, 4, 8, 8), 4, 6, bias=False)
    zero = np.zeros(6)
    b.output(b.bn(y, 6, stats=(b.rng.normal(size=6), zero, zero, b.rng.uniform(1, 2, 6))))
    folded, _ = check_folds(b.model())
    assert len(folded.graph.node[0].input) == 2


def test_output_name_survives_inside_the_graph():
    b = Builder()
    y = b.bn(b.conv(b.input(2, 4, 8, 8), 4, 6), 6, out="normalized")
    b.output(b.node("Relu", y))
    folded, _ = check_folds(b.model())
    assert folded.graph.node[0].output[0] == "normalized"


def test_weight_of_two_convs_is_split():
    b = Builder()
    x = b.input(2, 4, 8, 8)
    w, bias = b.normal(6, 4, 3, 3, name="w"), b.normal(6, name="b")
    one = b.bn(b.node("Conv", x, w, bias), 6)
    b.output(one).output(b.node("Conv", x, w, bias))
    folded, _ = check_folds(b.model())
    names = {tensor.name for tensor in folded.graph.initializer}
    assert {"w", "b", "w_folded", "b_folded"} == names


def test_bias_that_is_also_a_parameter_of_the_batchnorm():
    b = Builder()
    x = b.input(2, 4, 8, 8)
    shared = b.normal(6, name="shared")
    y = b.node("Conv", x, b.normal(6, 4, 3, 3), shared)
    scale, _, mean, var = (b.const(v) for v in b.statistics(6))
    b.output(b.node("BatchNormalization", y, scale, shared, mean, var))
    check_folds(b.model())


def test_fresh_names_do_not_collide():
    b = Builder()
    x = b.input(2, 4, 8, 8, name="w_folded")
    w = b.normal(4, 4, 3, 3, name="w")
    y = b.bn(b.node("Conv", x, w, name="conv"), 4, out="conv_bias_folded")
    b.output(b.bn(b.node("Conv", y, w, out="w_folded_1"), 4, out="conv_bias"))
    check_folds(b.model())


def test_weight_computed_at_run_time_is_kept():
    b = Builder()
    x, w = b.input(2, 4, 8, 8), b.input(6, 4, 3, 3, name="w")
    b.output(b.bn(b.node("Conv", x, w), 6))
    check_kept(b.model(), Reason.NOT_CONSTANT, tensor="w")


def test_bias_computed_at_run_time_is_kept():
    b = Builder()
    x, bias = b.input(2, 4, 8, 8), b.input(6, name="bias")
    b.output(b.bn(b.node("Conv", x, b.normal(6, 4, 3, 3), bias), 6))
    check_kept(b.model(), Reason.NOT_CONSTANT, tensor="bias")


def test_affine_along_another_axis_is_kept():
    # A Transpose brings the width to where BatchNormalization takes it for the channels.
    b = Builder()
    y = b.conv(b.input(2, 4, 8, 8), 4, 6)
    y = b.node("Transpose", y, perm=[0, 3, 2, 1])
    b.output(b.bn(y, 6))
    check_kept(b.model(), Reason.AXIS)


def test_half_precision_overflow_is_kept():
    b = Builder(17, "float16")
    y = b.node("Conv", b.input(1, 2, 4, 4), b.const(np.full((2, 2, 1, 1), 300.0)))
    stats = (np.array([1e3, 1.0]), np.zeros(2), np.zeros(2), np.ones(2))
    b.output(b.bn(y, 2, stats=stats))
    check_kept(b.model(), Reason.OVERFLOW)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weight_that_is_not_finite_is_kept(bad):
    b = Builder()
    w = b.rng.normal(size=(6, 4, 3, 3))
    w[1, 2, 0, 0] = bad
    b.output(b.bn(b.node("Conv", b.input(2, 4, 8, 8), b.const(w)), 6))
    check_kept(b.model(), Reason.NON_FINITE)


# Down


def bn_conv(b, *, rank=2, c_in=4, c_out=6, spatial=None, shift=True, **conv):
    x = b.input("N", c_in, *(spatial or SPATIAL[rank]))
    scale, bias, mean, var = b.statistics(c_in)
    if not shift:
        bias, mean = bias * 0, mean * 0
    conv.setdefault("kernel", KERNELS[rank])
    y = b.bn(x, c_in, stats=(scale, bias, mean, var))
    b.output(b.conv(y, c_in, c_out, **conv))
    return b.model()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_down_every_type_and_rank(dtype, rank, bias):
    tolerance = {"bfloat16": 0.1, "float16": 1e-2}.get(dtype)
    check_folds(bn_conv(Builder(17, dtype, seed=rank), rank=rank, bias=bias), tolerance=tolerance)


@pytest.mark.parametrize("opset", [7, 11, 15, 22])
@pytest.mark.parametrize(
    "attributes",
    [
        {"group": 2},
        {"group": 4, "c_out": 4},
        {"group": 4, "c_out": 8},
        {"group": 2, "c_in": 6, "c_out": 4},
        {"strides": [2, 1], "dilations": [1, 2]},
        {"auto_pad": "VALID"},
        {"auto_pad": "SAME_UPPER", "kernel": (1, 1)},
        {"auto_pad": "SAME_UPPER", "kernel": (1, 1), "strides": [3, 2]},
        {"auto_pad": "SAME_LOWER", "kernel": (2, 2), "strides": [2, 2], "spatial": (6, 8)},
        {"pads": [0, 0, 0, 0]},
    ],
    ids=str,
)
def test_down_without_padding(attributes, opset):
    check_folds(bn_conv(Builder(opset), **attributes))


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1, 1, 1, 1]},
        {"pads": [0, 0, 0, 1]},
        {"pads": [1, 1, 1, 1], "kernel": (1, 1)},
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER", "kernel": (2, 2), "strides": [2, 2], "spatial": (7, 8)},
        {"auto_pad": "SAME_UPPER", "kernel": (2, 2), "strides": [2, 2], "spatial": ("H", 8)},
        {"group": 2, "pads": [1, 1, 1, 1]},
    ],
    ids=str,
)
def test_down_zero_padding_meets_a_shift(attributes):
    plan = check_kept(bn_conv(Builder(), **attributes), Reason.ZERO_PADDING)
    assert "shift is not 0 in" in plan.kept[0].attempts[1].detail
    check_folds(bn_conv(Builder(), shift=False, **attributes), sizes={"H": 6})


def test_down_to_several():
    b = Builder()
    y = b.bn(b.input("N", 4, 7, 7), 4)
    b.output(b.conv(y, 4, 3)).output(b.conv(y, 4, 2, kernel=(1, 1), bias=False))
    _folded, plan = check_folds(b.model())
    assert len(plan.folded[0].absorbers) == 2


def test_down_to_several_that_share_a_weight():
    b = Builder()
    y, w = b.bn(b.input("N", 4, 7, 7), 4), b.normal(3, 4, 3, 3, name="w")
    b.output(b.node("Conv", y, w)).output(b.node("Conv", b.input("N", 4, 7, 7, name="z"), w))
    folded, _ = check_folds(b.model())
    assert {"w", "w_folded"} <= {tensor.name for tensor in folded.graph.initializer}


def test_down_to_several_of_which_one_is_padded_is_kept():
    b = Builder()
    y = b.bn(b.input("N", 4, 7, 7), 4)
    b.output(b.conv(y, 4, 3)).output(b.conv(y, 4, 3, pads=[1, 1, 1, 1]))
    check_kept(b.model(), Reason.ZERO_PADDING)


def test_down_beside_another_reader_is_kept():
    b = Builder()
    y = b.bn(b.input("N", 4, 7, 7), 4)
    b.output(b.conv(y, 4, 3)).output(b.node("Sigmoid", y))
    check_kept(b.model(), Reason.OPERATOR)


def test_down_of_a_graph_output_is_kept():
    b = Builder()
    y = b.bn(b.input("N", 4, 7, 7), 4)
    b.output(b.conv(y, 4, 3)).output(y)
    check_kept(b.model(), Reason.GRAPH_OUTPUT, tensor=y)


def test_down_into_a_weight_is_kept():
    b = Builder()
    w = b.bn(b.input(6, 4, 3, 3, name="w"), 4)
    b.output(b.node("Conv", b.input("N", 4, 7, 7), w))
    check_kept(b.model(), Reason.NOT_CONSTANT)


def test_both_sides():
    b = Builder()
    y = b.conv(b.bn(b.input("N", 4, 7, 7), 4), 4, 6)
    b.output(b.bn(b.conv(b.bn(y, 6), 6, 3), 3))
    folded, _ = check_folds(b.model())
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Conv"]


def test_down_half_precision_overflow_is_kept():
    b = Builder(17, "float16")
    stats = (np.array([600.0, 1.0]), np.zeros(2), np.zeros(2), np.ones(2))
    y = b.bn(b.input(1, 2, 4, 4), 2, stats=stats)
    b.output(b.node("Conv", y, b.const(np.full((2, 2, 1, 1), 300.0))))
    check_kept(b.model(), Reason.OVERFLOW)

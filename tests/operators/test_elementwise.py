import numpy as np
import pytest
from support.build import DTYPES, Builder
from support.folding import check_folds, check_kept, count, fold_model

from normswap.reasons import Reason

C = 6


def ops(model):
    return [node.op_type for node in model.graph.node]


def conv(b):
    return b.conv(b.input("N", 4, 7, 7), 4, C)


SHAPES = [(1, C, 1, 1), (C, 1, 1), (), (1,), (1, 1, 1, 1)]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("constant_left", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_constants_between_conv_and_batchnorm(op, constant_left, shape):
    if op == "Div" and constant_left:
        pytest.skip("not linear")
    b = Builder()
    y, k = conv(b), b.const(b.rng.choice([-1, 1], shape) * b.rng.uniform(0.5, 2, shape))
    y = b.node(op, *((k, y) if constant_left else (y, k)))
    b.output(b.bn(y, C))
    folded, _ = check_folds(b.model())
    assert len(folded.graph.node) <= 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_chain_of_constants(dtype):
    b = Builder(17, dtype)
    y = conv(b)
    y = b.node("Sub", y, b.normal(1, C, 1, 1))
    y = b.node("Div", y, b.const(b.rng.uniform(0.5, 2, (C, 1, 1))))
    y = b.node("Mul", b.normal(1, C, 1, 1), y)
    y = b.node("Add", y, b.const(0.5))
    b.output(b.bn(y, C))
    check_folds(b.model(), tolerance=None if dtype != "bfloat16" else 0.1)


def test_constant_factor_zero():
    b = Builder()
    k = b.const(np.array([0.0, 1, 2, 0, -1, 3]).reshape(1, C, 1, 1))
    b.output(b.bn(b.node("Mul", conv(b), k), C))
    check_folds(b.model())


def test_without_a_linear_operator_the_constants_take_it():
    b = Builder()
    x = b.input("N", C, 4, 4)
    y = b.node("Add", b.node("Mul", x, b.normal(C, 1, 1)), b.normal(C, 1, 1))
    b.output(b.bn(y, C))
    assert ops(check_folds(b.model())[0]) == ["Mul", "Add"]


def test_a_factor_alone_gets_an_add():
    b = Builder()
    b.output(b.bn(b.node("Mul", b.input("N", C, 4, 4), b.normal(C, 1, 1)), C))
    assert ops(check_folds(b.model())[0]) == ["Mul", "Add"]


def test_constant_that_varies_over_space_takes_the_shift():
    b = Builder()
    b.output(b.bn(b.node("Add", conv(b), b.normal(C, 5, 5)), C))
    folded, _ = check_folds(b.model())
    assert ops(folded) == ["Conv", "Add"]


def test_width_as_long_as_the_channels_is_not_the_channels():
    # NumPy broadcasting is on the last axis: a constant (W) varies over the width.
    b = Builder()
    x = b.input(2, 4, 5, C + 2)
    y = b.node("Mul", b.conv(x, 4, C), b.normal(C))
    b.output(b.bn(y, C))
    folded, _ = check_folds(b.model())
    assert ops(folded)[:2] == ["Conv", "Mul"]


def test_constant_numerator_takes_the_scale():
    b = Builder()
    y = b.node("Div", b.const(2.0), b.node("Exp", b.input("N", C, 4, 4)))
    b.output(b.bn(y, C))
    assert ops(check_folds(b.model())[0]) == ["Exp", "Div", "Add"]


def test_product_of_tensors_is_kept():
    b = Builder()
    y = conv(b)
    b.output(b.bn(b.node("Mul", y, b.node("Sigmoid", b.input("N", C, 1, 1, name="z"))), C))
    check_kept(b.model(), Reason.SHIFT)


def test_scale_of_a_product_goes_to_one_factor():
    b = Builder()
    gate = b.node("Sigmoid", b.input("N", C, 1, 1, name="gate"))
    zero = np.zeros(C)
    y = b.node("Mul", conv(b), gate)
    b.output(b.bn(y, C, stats=(b.rng.normal(size=C), zero, zero, b.rng.uniform(1, 2, C))))
    assert ops(check_folds(b.model())[0]) == ["Sigmoid", "Conv", "Mul"]


def test_add_of_two_convs():
    b = Builder()
    x = b.input("N", 4, 7, 7)
    b.output(b.bn(b.node("Add", b.conv(x, 4, C), b.conv(x, 4, C)), C))
    folded, plan = check_folds(b.model())
    assert ops(folded) == ["Conv", "Conv", "Add"]
    assert len(plan.folded[0].absorbers) == 2


def test_add_of_a_conv_and_an_input_is_kept():
    b = Builder()
    x = b.input("N", 4, 7, 7)
    b.output(b.bn(b.node("Add", b.conv(x, 4, C), b.input("N", C, 5, 5, name="z")), C))
    check_kept(b.model(), Reason.GRAPH_INPUT, tensor="z")


def test_broadcast_operand_is_kept():
    b = Builder()
    x = b.input("N", 4, 7, 7)
    y = b.node("Add", b.conv(x, 4, C), b.conv(x, 4, 1))  # one channel, broadcast to all
    b.output(b.bn(y, C))
    check_kept(b.model(), Reason.AXIS)


@pytest.mark.parametrize("op", ["Identity", "Dropout"])
@pytest.mark.parametrize("opset", [7, 10, 12, 13, 22])
def test_identity_and_dropout_pass(op, opset):
    b = Builder(opset)
    b.output(b.bn(b.node(op, b.node("Identity", conv(b))), C))
    folded, _ = check_folds(b.model())
    assert ops(folded) == ["Conv", "Identity", op]


def test_dropout_in_training_mode_is_kept():
    b = Builder(13)
    ratio, mode = b.const(0.5), b.const(np.array(True))
    b.output(b.bn(b.node("Dropout", conv(b), ratio, mode), C))
    check_kept(b.model(), Reason.TRAINING_MODE)


def test_dropout_whose_mode_is_an_input_is_kept():
    from onnx import TensorProto

    b = Builder(13)
    mode = b.input(name="mode", elem_type=TensorProto.BOOL)
    b.output(b.bn(b.node("Dropout", conv(b), b.const(0.5), mode), C))
    check_kept(b.model(), Reason.TRAINING_MODE)


def test_shared_constant_of_two_adds_is_split():
    b = Builder()
    x, k = b.input("N", 4, 7, 7), b.normal(1, C, 1, 1, name="k")
    one = b.bn(b.node("Add", b.conv(x, 4, C), k), C)
    b.output(one).output(b.node("Add", b.conv(x, 4, C), k))
    folded, _ = fold_model(b.model())
    assert count(folded) == 0
    assert "k" in {tensor.name for tensor in folded.graph.initializer}
    assert ops(folded).count("Add") == 1  # that of the folded one goes into its Conv

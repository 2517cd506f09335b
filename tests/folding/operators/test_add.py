import numpy as np
import pytest
from support.build import DTYPES, Builder
from support.folding import check_folds, check_kept, count, fold_model
from support.routes import downward, ints, statistics

from normswap.graph.reasons import Reason

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


def test_without_a_linear_operator_the_constants_take_it():
    b = Builder()
    x = b.input("N", C, 4, 4)
    y = b.node("Add", b.node("Mul", x, b.normal(C, 1, 1)), b.normal(C, 1, 1))
    b.output(b.bn(y, C))
    assert ops(check_folds(b.model())[0]) == ["Mul", "Add"]


def test_constant_that_varies_over_space_takes_the_shift():
    b = Builder()
    b.output(b.bn(b.node("Add", conv(b), b.normal(C, 5, 5)), C))
    folded, _ = check_folds(b.model())
    assert ops(folded) == ["Conv", "Add"]


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


def test_shared_constant_of_two_adds_is_split():
    b = Builder()
    x, k = b.input("N", 4, 7, 7), b.normal(1, C, 1, 1, name="k")
    one = b.bn(b.node("Add", b.conv(x, 4, C), k), C)
    b.output(one).output(b.node("Add", b.conv(x, 4, C), k))
    folded, _ = fold_model(b.model())
    assert count(folded) == 0
    assert "k" in {tensor.name for tensor in folded.graph.initializer}


@pytest.mark.parametrize("op", ["Add", "Sub", "Sum", "Mean"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_shift_goes_to_one_operand_a_scale_to_all(op, dtype):
    b = Builder(17, dtype)
    x = b.input("N", 4, 7, 7)
    operands = [b.conv(x, 4, C) for _ in range(2 if op in ("Add", "Sub") else 3)]
    b.output(b.node("Sigmoid", b.bn(b.node(op, *operands), C)))
    _, plan = check_folds(b.model())
    assert len(plan.folded[0].absorbers) == len(operands)


@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_beside_constants(op):
    b = Builder()
    y = b.node(op, conv(b), b.normal(C, 1, 1), b.normal(5, 5))
    b.output(b.node("Sigmoid", b.bn(y, C)))
    check_folds(b.model())


def test_operands_that_are_broadcast_over_space():
    b = Builder()
    x = b.input("N", 4, 7, 7)
    pooled = b.conv(b.node("GlobalAveragePool", x), 4, C, kernel=(1, 1))
    b.output(b.node("Sigmoid", b.bn(b.node("Add", pooled, b.conv(x, 4, C)), C)))
    check_folds(b.model())


def test_the_same_tensor_twice_is_kept():
    b = Builder()
    y = conv(b)
    b.output(b.node("Sigmoid", b.bn(b.node("Add", y, y), C)))
    check_kept(b.model(), Reason.SEVERAL_READERS)


def test_channels_that_the_constant_makes_are_kept():
    b = Builder()
    y = b.node("Add", b.conv(b.input("N", 4, 7, 7), 4, 1), b.normal(C, 1, 1))
    b.output(b.node("Sigmoid", b.bn(y, C)))
    check_kept(b.model(), Reason.AXIS)


# Down


@pytest.mark.parametrize("op", ["Add", "Sub", "Sum", "Mean"])
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES, (C, 6, 6), (6, 1)], ids=str)
def test_down_beside_a_constant(op, left, shape):
    def add(b, y):
        k = b.normal(*shape)
        return b.node(op, *((k, y) if left else (y, k)))

    model = downward(add)
    if shape in ((C, 6, 6), (6, 1)):  # s*x + t + K = s*(x + K) + ..., which varies over space
        check_kept(model, Reason.AXIS)
    else:
        check_folds(model)


@pytest.mark.parametrize("op", ["Add", "Sub", "Sum", "Mean"])
@pytest.mark.parametrize("left", [True, False])
def test_down_a_shift_beside_a_tensor(op, left):
    def model(*, scale):
        b = Builder()
        gain, bias, mean, var = b.statistics(C)
        stats = (gain, bias, mean, var) if scale else (gain * 0 + 1, bias, mean, var * 0 + 1)
        y = b.bn(b.input("N", C, 6, 6), C, stats=stats, epsilon=0.0)
        z = b.input("N", C, 6, 6, name="z")
        y = b.node(op, *((y, z) if left else (z, y)))
        return b.output(b.conv(y, C, 3)).model()

    check_folds(model(scale=False))
    check_kept(model(scale=True), Reason.SCALE)


def test_down_a_shift_into_a_constant_that_varies_over_space():
    b = Builder()
    y = b.node("Relu", b.conv(b.input("N", 4, 7, 7), 4, C))
    y = b.bn(y, C, stats=statistics(b, C, signs="nonnegative"))
    b.output(b.node("Sigmoid", b.node("Add", y, b.normal(C, 5, 5))))
    check_folds(b.model())


def test_down_a_tensor_of_fewer_axes():
    b = Builder()
    y = b.node("Squeeze", b.bn(b.input(1, C, 1, 1), C), ints(b, 0))  # (C, 1, 1)
    y = b.node("Add", y, b.normal(2, C, 4, 4))
    b.output(b.conv(y, C, 3))
    check_kept(b.model(), Reason.AXIS)


def test_down_twice_into_one_sum():
    b = Builder()
    x = b.input("N", C, 6, 6)
    one, zero = np.ones(C), np.zeros(C)
    y = b.bn(x, C, stats=(one, b.rng.normal(size=C), zero, one), epsilon=0.0)
    b.output(b.conv(b.node("Add", y, y), C, 3))
    check_folds(b.model())

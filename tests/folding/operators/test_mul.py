import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, upward

from normswap.graph.reasons import Reason


def ops(model):
    return [node.op_type for node in model.graph.node]


def conv(b):
    return b.conv(b.input("N", 4, 7, 7), 4, C)


def test_constant_factor_zero():
    b = Builder()
    k = b.const(np.array([0.0, 1, 2, 0, -1, 3]).reshape(1, C, 1, 1))
    b.output(b.bn(b.node("Mul", conv(b), k), C))
    check_folds(b.model())


def test_a_factor_alone_gets_an_add():
    b = Builder()
    b.output(b.bn(b.node("Mul", b.input("N", C, 4, 4), b.normal(C, 1, 1)), C))
    assert ops(check_folds(b.model())[0]) == ["Mul", "Add"]


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_divisor_takes_the_inverse(dtype):
    # A scale alone, so that nothing is taken apart; the numerator is no constant and no operator.
    b = Builder(17, dtype)
    y = b.node("Div", b.input("N", C, 4, 4), b.const(b.rng.uniform(1, 2, (C, 1, 1))))
    zero = np.zeros(C)
    stats = (b.rng.uniform(0.5, 2, C), zero, zero, b.rng.uniform(0.5, 2, C))
    b.output(b.node("Sigmoid", b.bn(y, C, stats=stats)))
    assert ops(check_folds(b.model())[0]) == ["Div", "Sigmoid"]


def test_a_divisor_has_no_room_for_a_scale_of_zero():
    b = Builder()
    y = b.node("Div", b.input("N", C, 4, 4), b.const(b.rng.uniform(1, 2, (C, 4, 4))))
    b.output(b.node("Sigmoid", b.bn(y, C)))
    check_kept(b.model(), Reason.OPERATOR)


def test_division_by_zero_is_kept():
    def op(b, y):
        return b.node("Div", y, b.const(np.array([0.0, 1, 2, 3, 4, 5]).reshape(C, 1, 1)))

    b = Builder()
    b.output(b.conv(op(b, b.bn(b.input("N", C, 6, 6), C)), C, 3))
    from support.folding import fold_model

    folded, plan = fold_model(b.model())
    assert folded == b.model()
    assert plan.kept[0].attempts[1].reason is Reason.NON_FINITE


@pytest.mark.parametrize("op", ["Mul", "Div"])
@pytest.mark.parametrize("shape", [(C, 1, 1), (1, C, 1, 1), (), (1,)], ids=str)
def test_down_past_a_constant(op, shape):
    def add(b, y):
        return b.node(op, y, b.const(b.rng.uniform(0.5, 2, shape)))

    check_folds(downward(add))
    check_folds(downward(add, shift=False))


def test_down_past_a_constant_on_the_left():
    check_folds(downward(lambda b, y: b.node("Mul", b.normal(C, 1, 1), y)))


def test_down_below_a_constant_is_kept():
    check_kept(downward(lambda b, y: b.node("Div", b.normal(C, 1, 1), y)), Reason.OPERATOR)


def test_down_a_scale_passes_a_product():
    def op(b, y):
        return b.node("Mul", y, b.node("Sigmoid", b.input("N", C, 1, 1, name="gate")))

    check_folds(downward(op, shift=False))
    check_kept(downward(op), Reason.SHIFT)


def test_down_a_square_has_the_scale_twice():
    check_folds(downward(lambda b, y: b.node("Mul", y, y), shift=False))


def test_swish_is_kept():
    check_kept(upward(lambda b, y: b.node("Mul", y, b.node("Sigmoid", y))), Reason.SHIFT)
    check_kept(
        downward(lambda b, y: b.node("Mul", y, b.node("Sigmoid", y)), shift=False), Reason.OPERATOR
    )


def test_down_width_as_long_as_the_channels():
    # K over the width and a shift: s*(K*x) + K*t varies over space.
    check_kept(downward(lambda b, y: b.node("Mul", y, b.normal(6))), Reason.AXIS)


def split(op, constant, *, zero=False, left=False):
    """BN, a constant, a sum that a shift may pass and a scale may not, and a Conv."""
    b = Builder()
    stats = b.rng.uniform(0.5, 2, (4, C))
    stats[0, 2] *= not zero
    y = [b.bn(b.input("N", C, 6, 6), C, stats=stats), b.const(constant)]
    y = b.node("Add", b.node(op, *y[:: -1 if left else 1]), b.input("N", C, 6, 6, name="z"))
    return b.output(b.conv(y, C, 3)).model()


@pytest.mark.parametrize("op", ["Mul", "Div"])
@pytest.mark.parametrize("shape", [(C, 1, 1), (1, C, 1, 1), (1,), ()], ids=str)
def test_down_a_constant_takes_the_scale_where_only_the_shift_goes_on(op, shape):
    constant = np.random.default_rng(1).uniform(0.5, 2, shape)
    folded, plan = check_folds(split(op, constant))
    assert ops(folded) == [op, "Add", "Conv"]
    assert plan.folded[0].route[0].note == "K*(s*x + t) = (s*K)*x + K*t"


def test_down_a_constant_on_the_left_takes_the_scale():
    constant = np.linspace(-2, 2, C).reshape(C, 1, 1)
    check_folds(split("Mul", constant, left=True))
    check_kept(split("Div", constant, left=True), Reason.OPERATOR)  # K / (s*x + t)


@pytest.mark.parametrize("op", ["Mul", "Div"])
def test_down_a_constant_over_space_takes_no_scale(op):
    # What goes on would be a shift of every pixel.
    constant = np.random.default_rng(1).uniform(0.5, 2, (C, 6, 6))
    check_kept(split(op, constant), Reason.GRAPH_INPUT)


def test_down_a_scale_of_zero_goes_into_a_factor_and_into_no_divisor():
    constant = np.linspace(0.5, 2, C).reshape(C, 1, 1)
    check_folds(split("Mul", constant, zero=True))
    check_kept(split("Div", constant, zero=True), Reason.GRAPH_INPUT)


def test_down_a_constant_that_has_zeros_takes_a_scale_as_a_factor():
    constant = np.maximum(np.linspace(-1, 2, C), 0).reshape(C, 1, 1)
    check_folds(split("Mul", constant))
    check_kept(split("Div", constant), Reason.GRAPH_INPUT)

"""Normalizations that exporters write as arithmetic, and arithmetic that only looks like one."""

import numpy as np
import pytest
from support.build import Builder
from support.folding import assert_same_function, check_folds, fold_model
from support.graphs import live_ops

from normswap.graph.reasons import Reason

C = 6
EPSILON = 1e-3
SHAPES = [(1, C, 1, 1), (C, 1, 1)]


def conv(b):
    return b.conv(b.input("N", 4, 7, 7), 4, C)


def parameters(b, shape, names="sBmv"):
    found = dict(zip("sBmv", b.statistics(C), strict=True))
    return [b.const(found[name].reshape(shape)) for name in names]


def folds(b, y, left=("Conv", "Relu"), **options):
    b.output(b.node("Relu", y))
    folded, plan = check_folds(b.model(), **options)
    assert live_ops(folded) == list(left)
    assert not plan.kept
    return plan


def two(b, op, y, k, side):
    """An operator of a tensor and a constant, on either side where they commute."""
    return b.node(op, *((k, y) if side and op in ("Add", "Mul") else (y, k)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("side", [False, True])
@pytest.mark.parametrize(
    "order",
    [
        "-m /r *s +B",
        "-m *s /r +B",
        "*s +B",
        "*s -B",
        "-m /r",
        "/r -m",
        "+B *s",
        "-m *s",
        "*s -m /r",
    ],
)
def test_every_order(order, side, shape):
    b = Builder(seed=len(order))
    s, bias, mean, var = b.statistics(C)
    values = {"m": mean, "r": np.sqrt(var + EPSILON), "s": s, "B": bias}
    y = conv(b)
    for op, name in order.split():
        k = b.const(values[name].reshape(shape))
        y = two(b, {"-": "Sub", "+": "Add", "*": "Mul", "/": "Div"}[op], y, k, side)
    plan = folds(b, y)
    assert plan.folded[0].site.channels == C
    assert plan.folded[0].site.op.count("+") == len(order.split()) - 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_root_at_run_time(shape):
    b = Builder()
    s, bias, mean, var = parameters(b, shape)
    root = b.node("Sqrt", b.node("Add", var, b.const(np.asarray(EPSILON))))
    y = b.node("Div", b.node("Sub", conv(b), mean), root)
    folds(b, b.node("Add", b.node("Mul", y, s), bias))


def test_pytorch_decomposition():
    b = Builder()
    s, bias, mean, var = parameters(b, (C,))
    axis = b.const(np.array([-1]))

    def spread(name):
        return b.node("Unsqueeze", b.node("Unsqueeze", name, axis), axis)

    root = b.node("Sqrt", b.node("Add", var, b.const(np.asarray(EPSILON))))
    y = b.node("Sub", conv(b), spread(mean))
    y = b.node("Mul", y, spread(b.node("Reciprocal", root)))
    folds(b, b.node("Add", b.node("Mul", y, spread(s)), spread(bias)))


def test_keras():
    b = Builder()
    s, bias, mean, var = parameters(b, (1, C, 1, 1))
    root = b.node("Sqrt", b.node("Add", var, b.const(np.asarray(EPSILON))))
    gain = b.node("Mul", b.node("Reciprocal", root), s)
    y = b.node("Mul", conv(b), gain)
    folds(b, b.node("Add", y, b.node("Sub", bias, b.node("Mul", mean, gain))))


def test_keras_channels_last():
    b = Builder()
    s, bias, mean, var = parameters(b, (C,))
    power = b.node(
        "Pow", b.node("Add", var, b.const(np.asarray(EPSILON))), b.const(np.asarray(-0.5))
    )
    gain = b.node("Mul", power, s)
    x = b.node("Transpose", b.input(2, 7, 7, 4), perm=[0, 3, 1, 2])
    y = b.node("Transpose", b.conv(x, 4, C), perm=[0, 2, 3, 1])
    y = b.node("Add", b.node("Mul", y, gain), b.node("Sub", bias, b.node("Mul", mean, gain)))
    folds(b, y, ["Transpose", "Conv", "Transpose", "Relu"])


def test_paddle():
    b = Builder()
    s, bias, mean, var = b.statistics(C)
    shape = b.const(np.array([1, C, 1, 1]))
    y = b.node("Sub", conv(b), b.node("Reshape", b.const(mean), shape))
    wide = b.node("Cast", b.const(var, dtype=np.float64), to=1)
    root = b.node("Sqrt", b.node("Add", wide, b.const(np.asarray(EPSILON))))
    y = b.node("Div", y, b.node("Reshape", root, shape))
    y = b.node("Mul", y, b.node("Unsqueeze", b.const(s), b.const(np.array([0, 2, 3]))))
    folds(b, b.node("Add", y, b.node("Unsqueeze", b.const(bias), b.const(np.array([1, 2])))))


def test_scalars():
    b = Builder()
    y = b.node("Sub", conv(b), b.const(np.asarray(0.3)))
    y = b.node("Div", y, b.const(np.array([1.7])))
    y = b.node("Mul", b.const(np.asarray(-2.0)), y)
    folds(b, b.node("Add", y, b.const(np.full((1, 1, 1, 1), 0.1))))


@pytest.mark.parametrize("op", ["Sub", "Neg"])
def test_reversed_sign(op):
    b = Builder()
    y = conv(b)
    y = b.node("Neg", y) if op == "Neg" else b.node("Sub", b.normal(C, 1, 1), y)
    y = b.node("Mul", y, b.normal(C, 1, 1))
    folds(b, y if op == "Sub" else b.node("Add", y, b.normal(C, 1, 1)))


@pytest.mark.parametrize("shape", [(C,), (1, C)], ids=str)
def test_behind_a_gemm_the_channel_is_the_last_axis(shape):
    b = Builder()
    s, bias, mean, var = parameters(b, shape)
    y = b.node("Gemm", b.input("N", 5), b.normal(5, C), b.normal(C))
    y = b.node("Div", b.node("Sub", y, mean), var)
    folds(b, b.node("Add", b.node("Mul", y, s), bias), ["Gemm", "Relu"])


def test_behind_a_matmul_over_a_sequence():
    b = Builder()
    s, bias, mean, var = parameters(b, (C,))
    y = b.node("MatMul", b.input("N", 7, 5), b.normal(5, C))
    y = b.node("Div", b.node("Sub", y, mean), var)
    folds(b, b.node("Add", b.node("Mul", y, s), bias), ["MatMul", "Add", "Relu"])


def test_in_front_of_a_conv():
    b = Builder()
    x = b.node("Mul", b.input("N", 3, 7, 7), b.const(np.asarray(1 / 255)))
    x = b.node("Div", b.node("Sub", x, b.normal(1, 3, 1, 1)), b.normal(1, 3, 1, 1))
    folds(b, b.conv(x, 3, C))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_every_type(dtype):
    b = Builder(dtype=dtype)
    folds(b, b.node("Add", b.node("Mul", conv(b), b.normal(C, 1, 1)), b.normal(C, 1, 1)))


@pytest.mark.parametrize("first", ["bn", "arithmetic"])
def test_beside_a_batchnorm(first):
    b = Builder()
    y = conv(b)
    for what in ("bn", "arithmetic") if first == "bn" else ("arithmetic", "bn"):
        if what == "bn":
            y = b.bn(y, C)
        else:
            y = b.node("Add", b.node("Mul", y, b.normal(C, 1, 1)), b.normal(C, 1, 1))
    folds(b, y)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_an_operator_between_conv_and_batchnorm_goes_too(op):
    b = Builder()
    y = b.node(op, conv(b), b.normal(C, 1, 1))
    folds(b, b.bn(y, C))


def test_a_chain_that_is_read_in_the_middle_is_cut_there():
    b = Builder()
    s, bias, mean, var = parameters(b, (C, 1, 1))
    middle = b.node("Sub", conv(b), mean)
    y = b.node("Add", b.node("Mul", b.node("Div", middle, var), s), bias)
    b.output(b.node("Relu", y)).output(b.node("Neg", middle))
    _, plan = fold_model(b.model())
    assert [entry.site.op for entry in plan.kept] == ["Div+Mul+Add"]


# Look-alikes


def unchanged(b, y, *, kept=0, reason=None):
    b.output(b.node("Relu", y))
    folded, plan = fold_model(b.model())
    assert folded == b.model()
    assert not plan.folded
    assert len(plan.kept) == kept
    if reason is not None:
        assert plan.kept[0].reason is reason


@pytest.mark.parametrize("ops", [("Mul", "Add"), ("Add", "Mul"), ("Mul", "Mul")], ids="+".join)
def test_width_as_long_as_the_channels(ops):
    b = Builder()
    y = b.conv(b.input("N", 4, C + 2, C + 2), 4, C)
    for op in ops:
        y = b.node(op, y, b.normal(C))
    unchanged(b, y)


@pytest.mark.parametrize("shape", [(C, 1), (2, 1, 1, 1), (C, C), (C, C, 1)], ids=str)
def test_other_axes(shape):
    b = Builder()
    y = b.conv(b.input(2, 4, C + 2, C + 2), 4, C)
    unchanged(b, b.node("Add", b.node("Mul", y, b.normal(*shape)), b.normal(*shape)))


def test_sequence_as_long_as_the_features():
    b = Builder()
    y = b.node("MatMul", b.input("N", C, 5), b.normal(5, C))
    b.output(b.node("Add", b.node("Mul", y, b.normal(C, 1)), b.normal(C, 1)))
    folded, plan = fold_model(b.model())
    assert folded == b.model()
    # Along axis 1 it looks like a BatchNormalization, which is kept with its reason.
    assert plan.kept[0].reason is Reason.AXIS


@pytest.mark.parametrize("op", ["Mul", "Div", "Add", "Sub"])
def test_an_operator_by_itself_is_no_normalization(op):
    b = Builder()
    unchanged(b, b.node(op, conv(b), b.normal(C, 1, 1)))


def test_bias_and_activation_are_no_normalization():
    b = Builder()
    y = b.node("Add", b.node("MatMul", b.input("N", 7, 5), b.normal(5, C)), b.normal(C))
    unchanged(b, y)


def test_layer_normalization_is_none():
    b = Builder()
    x = b.input("N", 7, C)
    axes = {"axes": [-1]}
    centred = b.node("Sub", x, b.node("ReduceMean", x, **axes))
    var = b.node("ReduceMean", b.node("Mul", centred, centred), **axes)
    y = b.node("Div", centred, b.node("Sqrt", b.node("Add", var, b.const(np.asarray(EPSILON)))))
    unchanged(b, b.node("Add", b.node("Mul", y, b.normal(C)), b.normal(C)))


@pytest.mark.parametrize("how", ["Div", "Mul"])
def test_layer_normalization_of_vectors_is_none(how):
    b = Builder()
    x = b.input("N", C)
    centred = b.node("Sub", x, b.node("ReduceMean", x, axes=[-1]))
    var = b.node("ReduceMean", b.node("Mul", centred, centred), axes=[-1])
    root = b.node("Sqrt", var)
    y = b.node(how, centred, root if how == "Div" else b.node("Reciprocal", root))
    unchanged(b, b.node("Add", b.node("Mul", y, b.normal(C)), b.normal(C)))


def test_scale_and_bias_of_a_group_normalization_are_none():
    b = Builder()
    x = b.input(2, C, 4, 4)
    y = b.node("Reshape", x, b.const(np.array([0, 2, -1])))
    y = b.node("InstanceNormalization", y, b.const(np.ones(2)), b.const(np.zeros(2)))
    y = b.node("Reshape", y, b.const(np.array([2, C, 4, 4])))
    unchanged(b, b.node("Add", b.node("Mul", y, b.normal(C, 1, 1)), b.normal(C, 1, 1)))


def test_factor_of_the_caller():
    b = Builder()
    y = b.node("Mul", conv(b), b.input(C, 1, 1, name="k"))
    unchanged(b, b.node("Add", y, b.normal(C, 1, 1)))


def test_swish():
    b = Builder()
    y = conv(b)
    unchanged(b, b.node("Mul", y, b.node("Sigmoid", y)))


def test_reciprocal():
    b = Builder()
    y = b.node("Div", b.normal(C, 1, 1), b.node("Exp", conv(b)))
    unchanged(b, b.node("Add", y, b.normal(C, 1, 1)))


def test_division_by_zero():
    b = Builder()
    r = b.rng.uniform(1, 2, (C, 1, 1))
    r[2] = 0
    y = b.node("Div", b.node("Sub", conv(b), b.normal(C, 1, 1)), b.const(r))
    unchanged(b, y, kept=1, reason=Reason.NON_FINITE)


def test_integers():
    b = Builder()
    x = b.input("N", C, elem_type=7)
    y = b.node("Add", x, b.const(np.arange(C)))
    y = b.node("Div", y, b.const(np.arange(1, C + 1)))
    b.output(b.node("Cast", y, to=1))
    folded, plan = fold_model(b.model())
    assert folded == b.model()
    assert not plan.kept


def test_constant_that_adds_an_axis():
    b = Builder()
    y = b.node("Mul", b.input("N", C), b.normal(1, 1, C))
    unchanged(b, b.node("Add", y, b.normal(C)))


def test_constant_that_is_longer_than_the_tensor():
    b = Builder()
    y = b.node("Softmax", b.input("N", 1, 5, 5))
    unchanged(b, b.node("Add", b.node("Mul", y, b.normal(C, 1, 1)), b.normal(C, 1, 1)))


def test_unknown_rank():
    b = Builder()
    x = b.node("Reshape", b.input("N", C, 4, 4), b.input("R", name="shape", elem_type=7))
    b.output(b.node("Add", b.node("Mul", x, b.normal(C, 1, 1)), b.normal(C, 1, 1)), (None,) * 4)
    folded, plan = fold_model(b.model())
    assert folded == b.model()
    assert not plan.kept


def test_a_scale_and_a_shift_may_vary_along_different_axes():
    b = Builder()
    y = b.conv(b.input(2, 4, 7, 7), 4, 6)
    y = b.node("Mul", b.node("Add", y, b.normal(6, 1, 1)), b.normal(1, 1, 5))
    b.output(b.node("Sigmoid", y))
    folded, _ = fold_model(b.model())
    assert_same_function(b.model(), folded)


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("last", ["Neg", "Mul"])
def test_what_a_route_puts_between_two_of_its_nodes_belongs_to_it(last, scalar):
    # The shift of the BatchNormalization stays as an Add after the first Mul.
    b = Builder(18)
    shape = (1, 1, 1) if scalar else (C, 1, 1)
    y = b.node("Relu", b.input("N", C, 1, 1))
    y = b.node("Sub", b.normal(1, C, 5, 5), y)  # no link, since the tensor grows
    y = b.node("Mul", b.node("Add", y, b.normal(1)), b.normal(*shape))
    y = b.node("Neg", y) if last == "Neg" else b.node("Mul", y, b.normal(C, 1, 1))
    shift = 100.0 * (1 + np.arange(C))
    y = b.bn(y, C, stats=(np.ones(C), shift, np.zeros(C), np.ones(C)), epsilon=0.0)
    y = b.node("Div", y, b.const(1.0 + np.arange(C).reshape(C, 1, 1)))
    b.output(b.conv(y, C, 3, bias=False)).output(b.node("Relu", y))
    original = b.model()
    folded, _ = fold_model(original)
    assert_same_function(original, folded)

"""Attention: what is averaged takes an affine in for its result, and what only looks like it."""

import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.graphs import live_ops
from support.routes import ints

from normswap.graph.reasons import Reason

T, D, H = 5, 6, 3
"""Positions, channels and heads."""


def linear(b, x, out=D):
    return b.node("Add", b.node("MatMul", x, b.normal(D, out)), b.normal(out))


def scores(b, x):
    return b.node("MatMul", linear(b, x), b.node("Transpose", linear(b, x), perm=[0, 2, 1]))


def attention(weights, *, opset=17, dtype="float32", batch="N"):
    """softmax(q k^T) v, and a BatchNormalization of its channels."""
    b = Builder(opset, dtype)
    x = b.input(batch, T, D)
    y = b.node("MatMul", weights(b, scores(b, x)), linear(b, x))
    y = b.bn(b.node("Transpose", y, perm=[0, 2, 1]), D)
    return b.output(b.node("Sigmoid", y)).model()


def ratio(b, value=0.5):
    return b.const(np.array(value))


def masked(b, y):
    mask = np.triu(np.full((T, T), -1e9), 1)
    return b.node("Softmax", b.node("Add", y, b.const(mask)), axis=-1)


def turned_twice(b, y):
    y = b.node("Softmax", b.node("Transpose", y, perm=[0, 2, 1]), axis=1)
    return b.node("Transpose", y, perm=[0, 2, 1])


def in_more_axes(b, y):
    y = b.node("Softmax", b.node("Reshape", y, ints(b, -1, 1, T, T)), axis=-1)
    return b.node("Squeeze", y, ints(b, 1))


AVERAGES = {
    "Softmax": lambda b, y: b.node("Softmax", y, axis=-1),
    "Softmax by its default": lambda b, y: b.node("Softmax", y),
    "Softmax from the front": lambda b, y: b.node("Softmax", y, axis=2),
    "Hardmax": lambda b, y: b.node("Hardmax", y, axis=-1),
    "a causal mask": masked,
    "a Dropout in inference": lambda b, y: b.node("Dropout", b.node("Softmax", y), ratio(b)),
    "Identity": lambda b, y: b.node("Identity", b.node("Softmax", y)),
    "Transpose": turned_twice,
    "Reshape": in_more_axes,
    "Cast": lambda b, y: b.node("Cast", b.node("Softmax", b.node("Cast", y, to=11)), to=1),
}


@pytest.mark.parametrize("weights", AVERAGES.values(), ids=AVERAGES)
def test_attention(weights):
    folded, _ = check_folds(attention(weights))
    assert live_ops(folded)[-2:] == ["Transpose", "Sigmoid"]


@pytest.mark.parametrize("opset", [11, 12, 21])
def test_attention_at_other_opsets(opset):
    check_folds(attention(lambda b, y: b.node("Softmax", y, axis=2), opset=opset))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_attention_in_other_types(dtype):
    check_folds(attention(lambda b, y: b.node("Softmax", y, axis=-1), dtype=dtype))


def with_zeros_for_nan(b, y):
    """What torch makes of rows that are masked as a whole."""
    y = b.node("Softmax", y, axis=-1)
    return b.node("Where", b.node("IsNaN", y), b.const(np.zeros(())), y)


def with_rows_left_out(b, y):
    keep = b.const((np.arange(T)[:, None] > 1).astype(float))
    return b.node("Mul", b.node("Softmax", y, axis=-1), keep)


def in_training(b, y):
    return b.node("Dropout", b.node("Softmax", y), ratio(b, 0.0), b.const(np.array(True)))


NO_AVERAGES = {
    "over the other axis": lambda b, y: b.node("Softmax", y, axis=1),
    "turned": lambda b, y: b.node("Transpose", b.node("Softmax", y), perm=[0, 2, 1]),
    "over the batch": lambda b, y: b.node("Softmax", y, axis=0),
    "rows of zeros": with_rows_left_out,
    "NaN to 0": with_zeros_for_nan,
    "a Dropout in training": in_training,
    "LogSoftmax": lambda b, y: b.node("LogSoftmax", y, axis=-1),
    "Sigmoid": lambda b, y: b.node("Sigmoid", y),
    "a scale after it": lambda b, y: b.node("Mul", b.node("Softmax", y), b.const(np.array(0.5))),
    "rows cut anew": lambda b, y: b.node(
        "Reshape", b.node("Softmax", b.node("Reshape", y, ints(b, 0, -1))), ints(b, 0, T, T)
    ),
    "through integers": lambda b, y: b.node(
        "Cast", b.node("Cast", b.node("Softmax", y), to=7), to=1
    ),
}


@pytest.mark.parametrize("weights", NO_AVERAGES.values(), ids=NO_AVERAGES)
def test_look_alikes(weights):
    check_kept(attention(weights, batch=2), Reason.NOT_CONSTANT)


@pytest.mark.parametrize(("axis", "folds"), [(1, False), (2, True), (-1, True)])
def test_until_opset_12_a_softmax_is_over_all_axes_from_one_on(axis, folds):
    model = attention(lambda b, y: b.node("Softmax", y, axis=axis), opset=12)
    check_folds(model) if folds else check_kept(model, Reason.NOT_CONSTANT)


def test_until_opset_12_it_is_so_by_default():
    check_kept(attention(lambda b, y: b.node("Softmax", y), opset=12), Reason.NOT_CONSTANT)


def test_a_scale_alone_passes_any_product():
    b = Builder()
    x = b.input("N", T, D)
    y = b.node("MatMul", scores(b, x), linear(b, x))
    scale, _, _, var = b.statistics(D)
    y = b.bn(b.node("Transpose", y, perm=[0, 2, 1]), D, stats=(scale, 0 * scale, 0 * scale, var))
    check_folds(b.output(b.node("Sigmoid", y)).model())


def test_channels_that_the_weights_make_are_kept():
    """The affine would be one of the positions that are asked for."""
    b = Builder()
    x = b.input("N", T, D)
    y = b.node("MatMul", b.node("Softmax", scores(b, x), axis=-1), linear(b, x))
    b.output(b.node("Sigmoid", b.bn(y, T)))
    check_kept(b.model(), Reason.NOT_CONSTANT)


def test_weights_on_the_right():
    b = Builder()
    x = b.input("N", T, D)
    p = b.node("Softmax", scores(b, x), axis=1)
    y = b.node("MatMul", b.node("Transpose", linear(b, x), perm=[0, 2, 1]), p)
    check_folds(b.output(b.node("Sigmoid", b.bn(y, D))).model())


def test_heads_with_channels_of_their_own():
    """As of BotNet: a channel is one of a head and one of the value."""
    b = Builder()
    x = b.input(2, D, 2, T)
    qkv = [
        b.node("Reshape", b.conv(x, D, D, kernel=(1, 1)), ints(b, 2, H, D // H, 2 * T))
        for _ in range(3)
    ]
    q, v = (b.node("Transpose", y, perm=[0, 1, 3, 2]) for y in (qkv[0], qkv[2]))
    p = b.node("Softmax", b.node("MatMul", q, qkv[1]), axis=-1)
    y = b.node("Transpose", b.node("MatMul", p, v), perm=[0, 1, 3, 2])
    y = b.bn(b.node("Reshape", y, ints(b, 2, D, 2, T)), D)
    check_folds(b.output(b.node("Sigmoid", y)).model())


@pytest.mark.parametrize("op", ["MatMul", "Einsum"])
def test_a_value_that_is_padded_takes_the_scale_alone(op):
    """As of HaloNet: the zeros are averaged too. The shift is added instead."""
    b = Builder()
    v = b.node("Pad", b.conv(b.input(2, 3, T), 3, D, kernel=(1,)), ints(b, 0, 0, 1, 0, 0, 2))
    p = b.node("Softmax", b.input(2, T + 3, 4, name="p"), axis=1)
    options = {"equation": "bcj,bji->bci"} if op == "Einsum" else {}
    y = b.bn(b.node(op, v, p, **options), D)
    folded, _ = check_folds(b.output(b.node("Sigmoid", y)).model())
    assert live_ops(folded)[-3:] == [op, "Add", "Sigmoid"]


def test_a_value_that_all_heads_share_is_kept():
    b = Builder()
    x = b.input(2, T, D)
    p = b.node("Softmax", b.node("Reshape", linear(b, x, H * T), ints(b, 2, H, T, T)), axis=-1)
    v = b.node("Unsqueeze", linear(b, x, 2), ints(b, 1))
    y = b.node("Transpose", b.node("MatMul", p, v), perm=[0, 1, 3, 2])
    y = b.bn(b.node("Reshape", y, ints(b, 2, 2 * H, T)), 2 * H)
    check_kept(b.output(b.node("Sigmoid", y)).model(), Reason.AXIS)


def test_an_average_of_constants_takes_no_addition():
    b = Builder()
    p = b.node("Softmax", b.input("N", T), axis=-1)
    y = b.node("MatMul", p, b.normal(T, D))
    folded, _ = check_folds(b.output(b.node("Sigmoid", b.bn(y, D))).model())
    assert live_ops(folded) == ["Softmax", "MatMul", "Sigmoid"]


def test_down():
    b = Builder()
    x, p = b.input("N", D, T), b.node("Softmax", b.input("N", T, T, name="p"), axis=1)
    y = b.node("MatMul", b.bn(x, D), p)
    check_folds(b.output(b.conv(y, D, 3, kernel=(1,))).model())


def test_down_past_what_averages_nothing_is_kept():
    b = Builder()
    x, p = b.input("N", D, T), b.node("Softmax", b.input("N", T, T, name="p"), axis=2)
    y = b.node("MatMul", b.bn(x, D), p)
    check_kept(b.output(b.conv(y, D, 3, kernel=(1,))).model(), Reason.NOT_CONSTANT)


def by_einsum(equation, *, axis=-1, t=T, turned=False):
    b = Builder()
    x, z = b.input(2, T, D), b.input(2, T, t, name="z")
    p = b.node("Softmax", z, axis=axis)
    y = b.node("Einsum", *((linear(b, x), p) if turned else (p, linear(b, x))), equation=equation)
    return b.output(b.node("Sigmoid", b.bn(y, D))).model()


@pytest.mark.parametrize(
    ("equation", "axis", "turned"),
    [
        ("bij,bjd->bdi", -1, False),
        ("bjd,bij->bdi", 2, True),
        ("bji,bjd->bdi", 1, False),
        ("...ij,...jd->...di", -1, False),
    ],
)
def test_einsum(equation, axis, turned):
    check_folds(by_einsum(equation, axis=axis, turned=turned))


@pytest.mark.parametrize(
    ("equation", "axis", "t"),
    [
        ("bij,bjd->bdi", 1, T),  # over the positions that are asked for
        ("bij,bid->bdi", -1, T),  # over what is summed in P alone ... and i, which is not
        ("bij,bjd->bdj", -1, T),  # sums i of P, and nothing of the value
        ("bij,bjd->bdi", -1, 1),  # one weight, which is 1, for each of five values
        ("bij,bjd->bd", -1, T),  # sums over all that ask, too
    ],
)
def test_einsum_that_averages_nothing(equation, axis, t):
    model = by_einsum(equation, axis=axis, t=t)
    check_kept(model, Reason.SHIFT)


def test_einsum_down():
    b = Builder()
    x, p = b.input("N", D, T), b.node("Softmax", b.input("N", T, T, name="p"), axis=-1)
    y = b.node("Einsum", p, b.bn(x, D), equation="bij,bdj->bdi")
    check_folds(b.output(b.conv(y, D, 3, kernel=(1,))).model())

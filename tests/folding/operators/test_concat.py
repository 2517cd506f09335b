import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C

from normswap.graph.reasons import Reason


def convs(b, *channels, x=None):
    x = x or b.input("N", 4, 7, 7)
    return [b.conv(x, 4, c) for c in channels]


@pytest.mark.parametrize("axis", [1, -3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convs_side_by_side(axis, dtype):
    b = Builder(17, dtype)
    y = b.node("Concat", *convs(b, 2, 5, 1), axis=axis)
    b.output(b.node("Sigmoid", b.bn(y, 8)))
    _, plan = check_folds(b.model())
    assert len(plan.folded[0].absorbers) == 3


def test_mixnet():
    b = Builder()
    parts = b.node("Split", b.input("N", 6, 8, 8), outputs=3, axis=1)
    mixed = [
        b.conv(part, 2, 2, kernel=(k, k), group=2, bias=False, pads=[k // 2] * 4)
        for part, k in zip(parts, (3, 5, 7), strict=True)
    ]
    b.output(b.node("Sigmoid", b.bn(b.node("Concat", *mixed, axis=1), 6)))
    check_folds(b.model())


def test_nested_with_other_operators_and_constants():
    b = Builder()
    x = b.input(2, 4, 5, 5)
    one = b.node("ConvTranspose", x, b.normal(4, 3, 1, 1))
    inner = b.node("Concat", b.conv(x, 4, 2, kernel=(1, 1)), b.normal(2, 1, 5, 5), axis=1)
    b.output(b.node("Sigmoid", b.bn(b.node("Concat", one, inner, axis=1), 6)))
    check_folds(b.model())


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_along_another_axis(axis):
    b = Builder()
    y = b.node("Concat", *convs(b, C, C), axis=axis)
    b.output(b.node("Sigmoid", b.bn(y, C)))
    check_folds(b.model())


def test_one_size_that_is_not_known_follows_from_the_others():
    b = Builder()
    x = b.input("N", 4, 5, 5)
    y = b.conv(x, 4, 6, kernel=(1, 1))
    part = b.node(
        "Slice",
        y,
        b.const(np.array([0])),
        b.input(1, name="end", elem_type=7),
        b.const(np.array([1])),
    )
    y = b.node("Concat", part, b.conv(x, 4, 2, kernel=(1, 1)), axis=1)
    b.output(b.node("Sigmoid", b.bn(y, 8)), ("N", 8, 5, 5))
    plan = check_kept(b.model(), Reason.AXIS)
    assert "Slice" in plan.kept[0].detail  # it got past the Concat


@pytest.mark.parametrize("place", [0, 1, 2])
def test_down_beside_others(place):
    b = Builder()
    operands = [b.input("N", 2, 6, 6, name="a"), b.input("N", 3, 6, 6, name="b")]
    operands.insert(place, b.bn(b.input("N", C, 6, 6), C))
    b.output(b.conv(b.node("Concat", *operands, axis=1), C + 5, 4))
    check_folds(b.model())


def test_down_from_both():
    b = Builder()
    y = b.bn(b.input("N", C, 6, 6), C)
    z = b.bn(b.input("N", 3, 6, 6, name="z"), 3)
    b.output(b.conv(b.node("Concat", y, z, axis=1), C + 3, 4))
    _, plan = check_folds(b.model())
    assert len(plan.folded) == 2


def test_an_operand_that_takes_nothing_is_kept():
    b = Builder()
    x = b.input("N", 4, 5, 5)
    z = b.input("N", 4, 5, 5, name="z")
    y = b.node("Concat", b.conv(x, 4, 2, kernel=(1, 1)), z, axis=1)
    b.output(b.node("Sigmoid", b.bn(y, 6)))
    check_kept(b.model(), Reason.GRAPH_INPUT, tensor="z")


def test_an_operand_that_is_read_elsewhere_is_kept():
    b = Builder()
    one, other = convs(b, 3, 3)
    b.output(b.node("Sigmoid", b.bn(b.node("Concat", one, other, axis=1), 6)))
    b.output(b.node("Sigmoid", one))
    check_kept(b.model(), Reason.SEVERAL_READERS, tensor=one)


def test_the_same_tensor_twice_is_kept():
    b = Builder()
    (y,) = convs(b, 3)
    b.output(b.node("Sigmoid", b.bn(b.node("Concat", y, y, axis=1), 6)))
    check_kept(b.model(), Reason.SEVERAL_READERS)


def test_down_beside_others_in_space_is_kept():
    b = Builder()
    y = b.node("Concat", b.bn(b.input("N", C, 3, 6), C), b.input("N", C, 3, 6, name="z"), axis=2)
    b.output(b.conv(y, C, 3))
    check_kept(b.model(), Reason.AXIS)

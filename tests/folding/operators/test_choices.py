import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, statistics

from normswap.graph.reasons import Reason


def two(b):
    x = b.input("N", 4, 7, 7)
    return b.conv(x, 4, C), b.conv(x, 4, C)


@pytest.mark.parametrize("op", ["Max", "Min"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_operand_takes_it(op, dtype):
    b = Builder(17, dtype)
    y = b.node(op, *two(b), b.normal(C, 1, 1))
    b.output(b.node("Sigmoid", b.bn(y, C, stats=statistics(b, C, signs="nonnegative"))))
    check_folds(b.model())


def test_a_maximum_with_zero_takes_the_shift_that_a_relu_cannot():
    b = Builder()
    y = b.node("Max", two(b)[0], b.const(0.0))
    b.output(b.node("Sigmoid", b.bn(y, C, stats=statistics(b, C, signs="nonnegative"))))
    folded, _ = check_folds(b.model())
    assert [node.op_type for node in folded.graph.node][-2:] == ["Max", "Sigmoid"]


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_negative_scales_are_kept(op):
    b = Builder()
    b.output(b.node("Sigmoid", b.bn(b.node(op, *two(b)), C, stats=statistics(b, C))))
    check_kept(b.model(), Reason.NEGATIVE_SCALE)


def test_where_takes_any_scale():
    b = Builder()
    condition = b.input("N", 1, 5, 5, name="condition", elem_type=9)
    y = b.node("Where", condition, two(b)[0], b.normal(C, 1, 1))
    b.output(b.node("Sigmoid", b.bn(y, C)))
    check_folds(b.model())


def test_a_side_that_takes_nothing_is_kept():
    b = Builder()
    condition = b.input("N", 1, 5, 5, name="condition", elem_type=9)
    y = b.node("Where", condition, two(b)[0], b.input("N", C, 5, 5, name="z"))
    b.output(b.node("Sigmoid", b.bn(y, C)))
    check_kept(b.model(), Reason.GRAPH_INPUT, tensor="z")


def test_a_side_that_is_broadcast_is_kept():
    b = Builder()
    x = b.input("N", 4, 7, 7)
    y = b.node("Max", b.conv(x, 4, C), b.conv(x, 4, 1))
    b.output(b.node("Sigmoid", b.bn(y, C, stats=statistics(b, C, signs="nonnegative"))))
    check_kept(b.model(), Reason.AXIS)


def test_down_is_kept():
    model = downward(lambda b, y: b.node("Max", y, b.const(0.0)), signs="nonnegative")
    check_kept(model, Reason.OPERATOR)


def test_a_constant_does_not_grow_without_bound():
    b = Builder()
    y = b.node(
        "Where",
        b.input(1, 1, 160, 160, name="c", elem_type=9),
        b.normal(1, 1, 160, 160),
        b.conv(b.input(1, 4, 160, 160), 4, C, kernel=(1, 1)),
    )
    b.output(b.node("Sigmoid", b.bn(y, C)))
    plan = check_kept(b.model(), Reason.AXIS)
    assert "grow" in plan.kept[0].detail

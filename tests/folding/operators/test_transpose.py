import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, ints, upward

from normswap.graph.reasons import Reason


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("perm", [(0, 1, 3, 2), (2, 1, 0, 3), (3, 1, 0, 2)])
def test_the_channel_axis_stays_where_it_is(perm, dtype):
    check_folds(upward(lambda b, y: b.node("Transpose", y, perm=perm), dtype=dtype))


def test_to_channels_last_and_back():
    def op(b, y):
        y = b.node("Identity", b.node("Transpose", y, perm=[0, 2, 3, 1]))
        return b.node("Transpose", y, perm=[0, 3, 1, 2])

    check_folds(upward(op))
    check_folds(downward(op))


def test_the_default_reverses():
    b = Builder()
    y = b.node("Conv", b.input("N", 4, 9), b.normal(5, 4, 3))
    b.output(b.bn(b.node("Transpose", y), 5))
    check_folds(b.model())


@pytest.mark.parametrize("opset", [7, 13, 22])
@pytest.mark.parametrize("add", [None, "left", "right"])
def test_linear_over_a_sequence(opset, add):
    b = Builder(opset)
    y = b.node("MatMul", b.input("N", "L", 5), b.normal(5, 8))
    if add:
        bias = b.normal(8)
        y = b.node("Add", *((bias, y) if add == "left" else (y, bias)))
    b.output(b.bn(b.node("Transpose", y, perm=[0, 2, 1]), 8))
    _folded, plan = check_folds(b.model())
    assert plan.folded[0].added_nodes == (0 if add else 1)


def test_square_axes_go_by_place():
    b = Builder()
    y = b.node("Add", b.node("MatMul", b.input(4, 4, 4), b.normal(4, 4)), b.normal(4))
    b.output(b.bn(b.node("Transpose", y, perm=[0, 2, 1]), 4))
    check_folds(b.model())


@pytest.mark.parametrize("perm", [(0, 2, 1, 3), (0, 3, 2, 1), (1, 0, 2, 3)])
def test_another_axis_in_place_of_the_channels_is_kept(perm):
    # All axes are of size C, so that only the place of an axis tells it from the others.
    model = upward(lambda b, y: b.node("Transpose", y, perm=perm), size=C + 2, batch=C)
    check_kept(model, Reason.AXIS)


def test_down_into_a_linear_operator():
    b = Builder()
    y = b.node("Transpose", b.bn(b.input("N", C, 4), C), perm=[0, 2, 1])
    b.output(b.node("Gemm", b.node("Reshape", y, ints(b, -1, C)), b.normal(C, 3), b.normal(3)))
    check_folds(b.model())


def test_down_to_another_axis_is_kept():
    model = downward(lambda b, y: b.node("Transpose", y, perm=[0, 2, 1, 3]), batch=C)
    check_kept(model, Reason.AXIS)

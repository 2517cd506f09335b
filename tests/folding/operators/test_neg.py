import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, upward

from normswap.graph.reasons import Reason


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_shift_changes_its_sign(dtype):
    check_folds(upward(lambda b, y: b.node("Neg", y), dtype=dtype))
    check_folds(downward(lambda b, y: b.node("Neg", y), dtype=dtype))


def test_behind_it_a_relu_is_another_one():
    def op(b, y):
        return b.node("Relu", b.node("Neg", y))

    check_folds(upward(op, signs="nonnegative", shift=False))
    check_kept(upward(op, shift=False), Reason.NEGATIVE_SCALE)


def test_another_reader():
    b = Builder()
    y = b.conv(b.input("N", 4, 6, 6), 4, C)
    b.output(b.node("Sigmoid", b.bn(b.node("Neg", y), C))).output(b.node("Neg", y))
    check_kept(b.model(), Reason.SEVERAL_READERS)

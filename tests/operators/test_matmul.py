import pytest
from support.build import DTYPES, Builder
from support.folding import check_folds, check_kept

from normswap.reasons import Reason


def ops(model):
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("dtype", DTYPES)
def test_shift_becomes_an_add(dtype):
    b = Builder(17, dtype)
    y = b.node("MatMul", b.input("N", 5), b.normal(5, 6))
    b.output(b.bn(y, 6, out="y"))
    folded, plan = check_folds(b.model())
    assert ops(folded) == ["MatMul", "Add"]
    assert plan.folded[0].added_nodes == 1


@pytest.mark.parametrize("opset", [7, 9, 13, 17, 22])
@pytest.mark.parametrize("constant_left", [True, False])
@pytest.mark.parametrize("shape", [(6,), (1, 6), ()], ids=str)
def test_shift_goes_into_the_add_that_is_there(opset, constant_left, shape):
    b = Builder(opset)
    y, k = b.node("MatMul", b.input("N", 5), b.normal(5, 6)), b.normal(*shape)
    y = b.node("Add", k, y) if constant_left else b.node("Add", y, k)
    b.output(b.bn(y, 6))
    folded, plan = check_folds(b.model())
    assert ops(folded) == ["MatMul", "Add"]
    assert plan.folded[0].added_nodes == 0


def test_sub_has_its_sign():
    for order in (0, 1):
        b = Builder()
        y, k = b.node("MatMul", b.input("N", 5), b.normal(5, 6)), b.normal(6)
        y = b.node("Sub", *((y, k) if order else (k, y)))
        b.output(b.bn(y, 6))
        assert ops(check_folds(b.model())[0]) == ["MatMul", "Sub"]


def test_batched_weight_on_a_sequence():
    b = Builder()
    y = b.node("MatMul", b.input(3, 5, 4), b.normal(3, 4, 7))
    y = b.node("Transpose", y, perm=[0, 2, 1])
    b.output(b.bn(y, 7))
    check_folds(b.model())


def test_constant_left_operand_makes_the_channels():
    b = Builder()
    y = b.node("MatMul", b.normal(6, 4), b.input("N", 4, 5))
    b.output(b.bn(y, 6))
    assert ops(check_folds(b.model())[0]) == ["MatMul", "Add"]


def test_channels_that_the_weight_does_not_make_are_kept():
    b = Builder()
    y = b.node("MatMul", b.input(2, 6, 4), b.normal(4, 6))  # (2, 6, 6): axis 1 is not the weight's
    b.output(b.bn(y, 6))
    check_kept(b.model(), Reason.AXIS)


def test_no_constant_operand_is_kept():
    b = Builder()
    y = b.node("MatMul", b.input("N", 5), b.input(5, 6, name="w"))
    b.output(b.bn(y, 6))
    check_kept(b.model(), Reason.NOT_CONSTANT)


def test_weight_that_would_have_to_grow_is_kept():
    b = Builder()
    y = b.node("MatMul", b.input(2, 3, 5, 4), b.normal(4, 7))  # BN over the batch axis of MatMul
    b.output(b.bn(y, 3))
    check_kept(b.model(), Reason.AXIS)

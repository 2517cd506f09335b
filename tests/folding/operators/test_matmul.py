import pytest
from support.build import DTYPES, Builder
from support.folding import check_folds, check_kept

from normswap.graph.reasons import Reason


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


def test_channel_is_the_batch_axis_of_the_weight():
    b = Builder()
    y = b.node("MatMul", b.input(2, 4, 3, 5), b.normal(4, 5, 6))
    b.output(b.bn(y, 4))
    check_folds(b.model())


@pytest.mark.parametrize("shape", [(6, 5), (1, 6, 5), (2, 6, 5)], ids=str)
def test_constant_left_with_batches(shape):
    b = Builder()
    b.output(b.bn(b.node("MatMul", b.normal(*shape), b.input(2, 5, 7)), 6))
    check_folds(b.model())


def test_vectors():
    b = Builder()
    y = b.node("Unsqueeze", b.node("MatMul", b.input(5), b.normal(5, 6)), b.const([0]))
    b.output(b.bn(y, 6))
    z = b.node("Unsqueeze", b.node("MatMul", b.normal(6, 5), b.input(5, name="z")), b.const([0]))
    b.output(b.bn(z, 6))
    check_folds(b.model())


def test_a_vector_makes_no_channels():
    b = Builder()
    b.output(b.node("Sigmoid", b.bn(b.node("MatMul", b.input(2, 4, 5), b.normal(5)), 4)))
    check_kept(b.model(), Reason.AXIS)


# Down


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("add", [None, "Add", "Sub", "left Sub", "shared"])
def test_down(dtype, add):
    b = Builder(17, dtype)
    y, k = b.node("MatMul", b.bn(b.input("N", 5), 5), b.normal(5, 6)), b.normal(6)
    if add == "shared":
        b.output(b.node("Add", b.input("N", 6, name="z"), k))
    if add:
        op = "Add" if add == "shared" else add.split()[-1]
        y = b.node(op, *((k, y) if "left" in add else (y, k)))
    b.output(y)
    tolerance = {"bfloat16": 0.1, "float16": 1e-2}.get(dtype)
    _, plan = check_folds(b.model(), tolerance=tolerance)
    assert plan.folded[0].added_nodes == (0 if add else 1)


def test_down_constant_left():
    b = Builder()
    b.output(b.node("MatMul", b.normal(6, 5), b.bn(b.input("N", 5, 7), 5)))
    check_folds(b.model())


def test_down_constant_left_with_an_addend():
    b = Builder()
    y = b.node("MatMul", b.normal(6, 5), b.bn(b.input("N", 5, 7), 5))
    b.output(b.node("Add", y, b.normal(6, 1)))
    _, plan = check_folds(b.model())
    assert plan.folded[0].added_nodes == 0


@pytest.mark.parametrize("add", [True, False])
def test_down_a_sequence(add):
    b = Builder()
    y = b.node("Transpose", b.bn(b.input("N", 5, "L"), 5), perm=[0, 2, 1])
    y = b.node("MatMul", y, b.normal(5, 6))
    b.output(b.node("Add", y, b.normal(6)) if add else y)
    check_folds(b.model(), sizes={"L": 4})


def test_down_batched_weights():
    b = Builder()
    y = b.node("Transpose", b.bn(b.input(3, 5, 4), 5), perm=[0, 2, 1])
    b.output(b.node("MatMul", y, b.normal(3, 5, 6)))
    check_folds(b.model())


def test_down_the_batch_axis_of_the_weight():
    # BN over axis 1, which is a batch axis of the weight, and not summed: W[b] *= s[b].
    b = Builder()
    y = b.bn(b.input(2, 4, 3, 5), 4)
    b.output(b.node("MatMul", y, b.normal(4, 5, 6)))
    check_folds(b.model())


@pytest.mark.parametrize("left", [True, False])
def test_down_vectors(left):
    b = Builder()
    y = b.bn(b.input("N", 5, 5), 5)
    b.output(b.node("MatMul", b.normal(5), y) if left else b.node("MatMul", y, b.normal(5)))
    if left:
        check_folds(b.model())  # sums axis 1, the channels
    else:
        check_kept(b.model(), Reason.AXIS)


def test_down_a_vector_of_channels():
    b = Builder()
    y = b.node("Squeeze", b.bn(b.input(1, 5), 5), b.const([0]))
    b.output(b.node("MatMul", y, b.normal(5, 6))).output(b.node("MatMul", b.normal(6, 5), y))
    check_folds(b.model())


def test_down_an_axis_that_is_not_summed_is_kept():
    b = Builder()
    b.output(b.node("MatMul", b.bn(b.input(2, 4, 4), 4), b.normal(4, 4)))
    check_kept(b.model(), Reason.AXIS)


def test_down_a_vector_per_batch_entry_is_kept():
    b = Builder()
    b.output(b.node("MatMul", b.bn(b.input(2, 4, 3, 4), 4), b.normal(4)))
    check_kept(b.model(), Reason.AXIS)


def test_down_no_constant_is_kept():
    b = Builder()
    b.output(b.node("MatMul", b.bn(b.input("N", 5), 5), b.input(5, 6, name="w")))
    check_kept(b.model(), Reason.NOT_CONSTANT)

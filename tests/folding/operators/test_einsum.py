import pytest
from support.build import Builder
from support.folding import check_folds, check_kept

from normswap.graph.reasons import Reason

C = 6


def ops(model):
    return [node.op_type for node in model.graph.node]


def einsum(b, equation, *operands):
    return b.node("Einsum", *operands, equation=equation)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("equation", "x", "w"),
    [
        ("ab,bc->ac", ("N", 4), (4, C)),
        ("ab,cb->ac", ("N", 4), (C, 4)),
        ("ab, bc", ("N", 4), (4, C)),
        ("NK,KC->NC", ("N", 4), (4, C)),
        ("abd,bcd->acd", (3, 4, 5), (4, C, 5)),
        ("abd,cb->acd", ("N", 4, 5), (C, 4)),
        ("...b,bc->...c", ("N", 4), (4, C)),
        ("b...,cb->...c", (4, 3), (C, 4)),
        ("ab,c->ac", ("N", 4), (C,)),
    ],
)
def test_up_into_a_constant(dtype, equation, x, w):
    b = Builder(17, dtype)
    y = einsum(b, equation, b.input(*x), b.normal(*w))
    b.output(b.bn(y, C))
    folded, plan = check_folds(b.model())
    assert ops(folded) == ["Einsum", "Add"]
    assert plan.folded[0].added_nodes == 1


def test_up_into_the_constant_that_comes_first():
    b = Builder()
    b.output(b.bn(einsum(b, "cb,ab->ac", b.normal(C, 4), b.input("N", 4)), C))
    check_folds(b.model())


def test_up_a_shift_goes_into_the_add_that_is_there():
    b = Builder()
    y = einsum(b, "ab,bc->ac", b.input("N", 4), b.normal(4, C))
    b.output(b.bn(b.node("Add", y, b.normal(C)), C))
    folded, plan = check_folds(b.model())
    assert ops(folded) == ["Einsum", "Add"]
    assert plan.folded[0].added_nodes == 0


def scaled_only(b, y, channels):
    scale, bias, mean, var = b.statistics(channels)
    return b.bn(y, channels, stats=(scale, 0 * bias, 0 * mean, var))


@pytest.mark.parametrize("equation", ["acd,aed->ace", "aed,acd->ace"])
def test_up_a_scale_goes_on_through_one_operand(equation):
    b = Builder()
    conv = b.conv(b.input(2, 4, 5), 4, C, kernel=(1,))
    other = b.input(2, 3, 5, name="other")
    operands = (conv, other) if equation.startswith("acd") else (other, conv)
    b.output(b.node("Sigmoid", scaled_only(b, einsum(b, equation, *operands), C)))
    check_folds(b.model())


@pytest.mark.parametrize("equation", ["acd->adc", "acd->ac", "acd"])
def test_a_scale_through_one_operand_alone(equation):
    b = Builder()
    y = einsum(b, equation, scaled_only(b, b.input(2, C, 5), C))
    last = {"acd->adc": C, "acd->ac": C, "acd": 5}[equation]
    b.output(b.node("MatMul", y, b.normal(last, 3)))
    check_folds(b.model()) if equation != "acd" else check_kept(b.model(), Reason.AXIS)


def test_up_a_shift_without_a_constant_is_kept():
    b = Builder()
    conv = b.conv(b.input(2, 4, 5), 4, C, kernel=(1,))
    y = einsum(b, "acd,aed->ace", conv, b.input(2, 3, 5, name="other"))
    b.output(b.node("Sigmoid", b.bn(y, C)))
    check_kept(b.model(), Reason.SHIFT)


def test_up_channels_that_the_constant_does_not_make_are_kept():
    b = Builder()
    y = einsum(b, "acb,bd->acd", b.input(2, C, 4), b.normal(4, C))
    b.output(b.bn(y, C))
    check_kept(b.model(), Reason.AXIS)


def test_up_a_constant_that_is_broadcast_is_kept():
    # onnxruntime broadcasts a constant of length 1, which has room for one scale only.
    b = Builder()
    y = einsum(b, "ac,c->ac", b.input("N", C), b.normal(1))
    b.output(b.node("Sigmoid", b.bn(y, C)))
    check_kept(b.model(), Reason.AXIS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("add", ["Add", "Sub", "Bus", None])
def test_down_an_axis_that_is_summed(dtype, add):
    b = Builder(17, dtype)
    y = einsum(b, "ac,cb->ab", b.bn(b.input("N", C), C), b.normal(C, 4))
    if add is not None:
        k = b.normal(4)
        y = b.node("Sub", k, y) if add == "Bus" else b.node(add, y, k)
    b.output(y)
    _, plan = check_folds(b.model())
    assert plan.folded[0].added_nodes == (1 if add is None else 0)


@pytest.mark.parametrize(
    ("equation", "w"),
    [
        ("acd,cb->abd", (C, 4)),
        ("acd,bc->adb", (4, C)),
        ("acd,cbe->adbe", (C, 4, 2)),
        ("acd,cd->a", (C, 5)),
        ("acd,cd->acd", (C, 5)),
        ("acd,c->ad", (C,)),
        ("acd,cb->ab", (C, 4)),  # d is summed and not the constant's: its length counts
        ("acd,cb->a", (C, 4)),  # b too is summed
        ("acd,...c->a...d", (4, C)),
        ("...cd,cb->...bd", (C, 4)),
    ],
)
def test_down(equation, w):
    b = Builder()
    y = einsum(b, equation, b.bn(b.input("N", C, 5), C), b.normal(*w))
    b.output(y)
    check_folds(b.model())


def test_down_to_a_scalar():
    b = Builder()
    b.output(einsum(b, "acd,cd->", b.bn(b.input(3, C, 5), C), b.normal(C, 5)))
    check_folds(b.model())


def test_down_into_the_constant_that_comes_first():
    b = Builder()
    b.output(einsum(b, "bc,acd->abd", b.normal(4, C), b.bn(b.input("N", C, 5), C)))
    check_folds(b.model())


def test_down_a_length_that_is_not_known_is_kept():
    b = Builder()
    y = b.bn(b.input("N", C, "L"), C)
    b.output(einsum(b, "acd,cb->ab", y, b.normal(C, 4)))
    check_kept(b.model(), Reason.SHAPE_UNKNOWN)


def test_down_axes_in_another_order_are_kept():
    b = Builder()
    b.output(einsum(b, "acd,cbe->adeb", b.bn(b.input("N", C, 5), C), b.normal(C, 4, 2)))
    check_kept(b.model(), Reason.AXIS)


def test_down_a_scale_goes_on():
    b = Builder()
    x = scaled_only(b, b.input(2, C, 5), C)
    y = einsum(b, "acd,aed->ace", x, b.input(2, 3, 5, name="other"))
    b.output(b.conv(y, C, 4, kernel=(1,)))
    check_folds(b.model())


def test_down_a_scale_that_comes_twice():
    b = Builder()
    x = scaled_only(b, b.input(2, C, 5), C)
    b.output(b.conv(einsum(b, "acd,acd->acd", x, x), C, 4, kernel=(1,)))
    check_folds(b.model())


def test_down_a_shift_past_another_tensor_is_kept():
    b = Builder()
    y = einsum(b, "acd,aed->ace", b.bn(b.input(2, C, 5), C), b.input(2, 3, 5, name="other"))
    b.output(b.conv(y, C, 4, kernel=(1,)))
    check_kept(b.model(), Reason.SHIFT)


def test_down_an_axis_that_is_summed_with_another_tensor_is_kept():
    b = Builder()
    x = scaled_only(b, b.input(2, C, 5), C)
    b.output(einsum(b, "acd,ace->ade", x, b.input(2, C, 3, name="other")))
    check_kept(b.model(), Reason.AXIS)


def test_three_operands():
    b = Builder()
    x = scaled_only(b, b.input(2, C, 5), C)
    b.output(einsum(b, "acd,cb,bd->ab", x, b.normal(C, 4), b.normal(4, 5)))
    check_folds(b.model())
    b = Builder()
    b.output(einsum(b, "acd,cb,bd->ab", b.bn(b.input(2, C, 5), C), b.normal(C, 4), b.normal(4, 5)))
    check_kept(b.model(), Reason.SHIFT)


def test_a_constant_that_is_shared_is_kept_for_others():
    b = Builder()
    x, w = b.input("N", C), b.normal(C, C)
    b.output(b.bn(einsum(b, "ab,bc->ac", x, w), C)).output(einsum(b, "ab,bc->ac", x, w))
    check_folds(b.model())


@pytest.mark.parametrize("equation", ["aab,bc->ac", "ab,bcc->ac"])
def test_a_diagonal_is_kept(equation):
    b = Builder()
    x = (3, 3, 4) if equation.startswith("aab") else (3, 4)
    w = (4, C, C) if "bcc" in equation else (4, C)
    b.output(b.bn(einsum(b, equation, b.input(*x), b.normal(*w)), C))
    check_kept(b.model(), Reason.OPERATOR)


@pytest.mark.parametrize("equation", ["ab,bc,cd->ac", "ab;bc->ac", "abx,bc->ac", "ab,bc->ax", ""])
def test_an_equation_that_is_wrong(equation):
    b = Builder()
    b.output(b.bn(einsum(b, "ab,bc->ac", b.input("N", 4), b.normal(4, C)), C))
    model = b.model()
    model.graph.node[0].attribute[0].s = equation.encode()
    for info in (*model.graph.value_info, *model.graph.output):
        info.type.tensor_type.ClearField("shape")
    check_kept(model, Reason.MALFORMED)


def test_mixed_letters_without_an_output_are_kept():
    b = Builder()
    y = einsum(b, "aB,Bc->ac", b.input("N", 4), b.normal(4, C))
    b.output(b.bn(y, C))
    model = b.model()
    model.graph.node[0].attribute[0].s = b"aB,Bc"
    check_kept(model, Reason.OPERATOR)


@pytest.mark.parametrize("opset", [12, 22])
def test_up_into_a_constant_whose_ellipsis_makes_the_output_larger(opset):
    b = Builder(opset)
    y = einsum(b, "...b,...bc->...c", b.input(1, 4), b.normal(5, 4, C))
    b.output(b.bn(y, C))
    check_folds(b.model())


@pytest.mark.parametrize("shape", [(1, C), ("N", C)])
def test_down_beside_a_constant_whose_ellipsis_makes_the_output_larger(shape):
    b = Builder()
    y = einsum(b, "...c,...cb->...b", b.bn(b.input(*shape), C), b.normal(3, C, 4))
    b.output(y)
    check_folds(b.model())


@pytest.mark.parametrize("made", [1, C, "M"])
def test_up_a_scale_goes_to_no_operand_that_is_broadcast_or_may_be(made):
    b = Builder()
    narrow = b.node("Sigmoid", b.input(2, made, 5))
    wide = b.node("Sigmoid", b.input(2, C, 5, name="wide"))
    x = b.node("Mul", narrow, b.normal(1))
    y = einsum(b, "a...d,a...d->a...d", x, b.node("Softmax", wide))
    b.output(b.node("Sigmoid", scaled_only(b, y, C)), (2, C, 5))
    check_folds(b.model()) if made == C else check_kept(b.model(), Reason.AXIS)


def test_down_a_length_in_doubt_is_kept():
    b = Builder()
    y = b.bn(b.input(2, C, 7), C)
    y = b.node("AveragePool", y, kernel_shape=[2], strides=[2], pads=[1, 1], ceil_mode=1)
    b.output(einsum(b, "acd,cb->ab", y, b.normal(C, 4)))
    check_kept(b.model(), Reason.SHAPE_UNKNOWN)

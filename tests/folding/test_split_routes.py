"""Scale and shift that go different ways, and BatchNormalizations that do the same."""

import numpy as np
import pytest
from onnx import TensorProto
from support.build import Builder
from support.folding import check_folds, check_kept, count
from support.routes import statistics

from normswap.graph.reasons import Reason

C = 4
PADDED = {"pads": [1, 1, 1, 1]}


def relu_bn(b, y, channels=C, *, signs="nonnegative", **options):
    y = b.node("Relu", y)
    return b.bn(y, channels, stats=statistics(b, channels, signs=signs, **options))


def residual(b, **options):
    """Conv, Relu, BN, and the input added."""
    x = b.input("N", C, 6, 6)
    return b.node("Add", relu_bn(b, b.conv(x, C, C, **PADDED), **options), x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scale_up_through_the_relu_shift_down_through_the_sum(dtype):
    b = Builder(17, dtype)
    b.output(b.conv(residual(b), C, 6, kernel=(1, 1)))
    _, plan = check_folds(b.model())
    assert {step.direction for step in plan.folded[0].route} == {"up", "down"}


def test_into_every_reader_of_the_sum():
    b = Builder()
    y = residual(b)
    b.output(b.conv(y, C, 6, kernel=(1, 1), bias=False)).output(b.conv(y, C, 2))
    check_folds(b.model())


def test_through_two_sums():
    b = Builder()
    y = b.node("Sub", b.input("N", C, 6, 6, name="z"), residual(b))
    b.output(b.conv(y, C, 6, kernel=(1, 1)))
    check_folds(b.model())


def test_into_the_classifier():
    b = Builder()
    y = b.node("Flatten", b.node("GlobalAveragePool", residual(b)))
    b.output(b.node("Gemm", y, b.normal(C, 3), b.normal(3)))
    check_folds(b.model())


def test_into_a_linear_operator_on_a_sequence():
    b = Builder()
    x = b.input("N", 7, 5)
    y = b.node("Add", b.node("MatMul", x, b.normal(5, 5)), b.normal(5))
    y = b.node("Transpose", b.node("Relu", y), perm=[0, 2, 1])
    y = b.node("Transpose", b.bn(y, 5, stats=statistics(b, 5, signs="nonnegative")), perm=[0, 2, 1])
    y = b.node("MatMul", b.node("Add", y, x), b.normal(5, 6))
    b.output(b.node("Add", y, b.normal(6)))
    check_folds(b.model())


def test_two_branches_of_one_sum():
    b = Builder()
    x = b.input("N", C, 6, 6)
    branches = [relu_bn(b, b.conv(x, C, C)) for _ in range(2)]
    b.output(b.conv(b.node("Add", *branches), C, 6, kernel=(1, 1)))
    _, plan = check_folds(b.model())
    assert len(plan.folded) == 2


@pytest.mark.parametrize("blocks", [1, 3])
def test_convmixer(blocks):
    # Half of its BatchNormalizations: those before a padded Conv stay.
    b = Builder()
    y = b.node("Relu", b.input("N", C, 6, 6))
    for _ in range(blocks):
        z = b.conv(y, C, C, kernel=(5, 5), group=C, pads=[2, 2, 2, 2])
        y = b.node("Add", relu_bn(b, z), y)
        y = relu_bn(b, b.conv(y, C, C, kernel=(1, 1)), signs="mixed")
    y = b.node("Flatten", b.node("GlobalAveragePool", y))
    b.output(b.node("Gemm", y, b.normal(C, 3), b.normal(3)))
    _, plan = check_folds(b.model(), left=blocks - 1)
    assert {kept.reason for kept in plan.kept} <= {Reason.NEGATIVE_SCALE, Reason.NONLINEAR}


def test_between_two_convs_for_quantization():
    b = Builder()
    y = relu_bn(b, b.conv(b.input("N", C, 8, 8), C, C), signs="mixed")
    b.output(b.node("Relu", b.conv(y, C, 6)))
    folded, _ = check_folds(b.model())
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Relu", "Conv", "Relu"]


def test_without_a_shift_padding_does_not_matter():
    b = Builder()
    y = relu_bn(b, b.conv(b.input("N", C, 8, 8), C, C), signs="mixed", shift=False)
    b.output(b.conv(y, C, 6, **PADDED))
    check_folds(b.model())


def test_shift_up_scale_down():
    # Up, a constant that varies over space takes t/s; down, the Relu takes a scale.
    b = Builder()
    y = b.node("Add", b.input("N", C, 6, 6), b.normal(C, 6, 6))
    y = b.bn(y, C, positive=True)
    b.output(b.conv(b.node("Relu", y), C, 3, **PADDED))
    _, plan = check_folds(b.model())
    directions = [step.direction for step in plan.folded[0].route]
    assert set(directions) == {"up", "down"}


@pytest.mark.parametrize("end", ["Sigmoid", "padded", "output", "both"])
def test_a_shift_that_nobody_takes_is_kept(end):
    b = Builder()
    y = residual(b)
    if end == "Sigmoid":
        b.output(b.node("Sigmoid", y))
    else:
        if end == "output":
            b.output(y)
        if end in ("padded", "both"):
            b.output(b.conv(y, C, 6, **PADDED))
        if end != "padded":
            b.output(b.conv(y, C, 6, kernel=(1, 1)))
    check_kept(b.model(), Reason.NONLINEAR)


def test_one_negative_scale_is_kept():
    b = Builder()
    b.output(b.conv(residual(b, signs="mixed"), C, 6, kernel=(1, 1)))
    plan = check_kept(b.model(), Reason.NEGATIVE_SCALE)
    assert len(plan.kept[0].attempts) >= 3


def test_another_reader_of_the_relu_is_kept():
    b = Builder()
    x = b.input("N", C, 6, 6)
    y = b.node("Relu", b.conv(x, C, C, **PADDED))
    z = b.bn(y, C, stats=statistics(b, C, signs="nonnegative"))
    b.output(b.conv(b.node("Add", z, x), C, 6, kernel=(1, 1)))
    b.output(b.node("Sigmoid", y))
    check_kept(b.model(), Reason.SEVERAL_READERS)


# Twins


def twins(b, y, ends=("Relu", "Sigmoid"), differ=False):
    stats = b.statistics(C)
    made = []
    for index, _ in enumerate(ends):
        changed = [v + (differ and index == 1 and i == 1) for i, v in enumerate(stats)]
        made.append(b.bn(y, C, stats=changed, epsilon=1e-3))
    return made


@pytest.mark.parametrize("copies", [2, 4])
def test_the_same_of_the_same_is_one(copies):
    b = Builder()
    y = b.conv(b.input("N", C, 6, 6), C, C)
    for z in twins(b, y, range(copies)):
        b.output(b.node("Relu", z))
    _folded, plan = check_folds(b.model())
    assert len(plan.folded) == copies


def test_without_an_absorber_one_is_enough():
    b = Builder()
    y = b.node("Exp", b.input("N", C, 6, 6))
    for z in twins(b, y):
        b.output(b.node("Relu", z))
    _folded, plan = check_folds(b.model(), left=1)
    assert len(plan.folded) == len(plan.kept) == 1


@pytest.mark.parametrize("which", [0, 1])
def test_a_twin_that_is_a_graph_output(which):
    b = Builder()
    made = twins(b, b.conv(b.input("N", C, 6, 6), C, C))
    b.output(made[which]).output(b.node("Relu", made[1 - which]))
    check_folds(b.model())


def test_twins_that_both_are_graph_outputs_keep_their_names():
    b = Builder()
    for z in twins(b, b.conv(b.input("N", C, 6, 6), C, C)):
        b.output(z)
    plan = check_kept(b.model(), Reason.SEVERAL_READERS, kept=2)
    assert "BatchNormalization" in plan.kept[0].detail


def test_siblings_that_differ_are_kept():
    b = Builder()
    for z in twins(b, b.conv(b.input("N", C, 6, 6), C, C), differ=True):
        b.output(b.node("Relu", z))
    plan = check_kept(b.model(), Reason.SEVERAL_READERS, kept=2)
    assert "with different parameters" in plan.kept[0].detail


def test_the_same_of_different_tensors_is_not_the_same():
    b = Builder()
    stats = b.statistics(C)
    for name in ("x", "z"):
        y = b.node("Exp", b.input("N", C, 6, 6, name=name))
        b.output(b.node("Relu", b.bn(y, C, stats=stats, epsilon=0.0)))
    _, plan = check_folds_none(b.model())
    assert len(plan.kept) == 2


def check_folds_none(model):
    plan = check_kept(model, Reason.OPERATOR, kept=2)
    assert count(model) == 2
    return model, plan


def test_affines_that_are_equal_only_in_the_end():
    # Other statistics, the same scale and shift.
    b = Builder()
    y = b.conv(b.input("N", C, 6, 6), C, C)
    one, zero = np.ones(C), np.zeros(C)
    first = b.bn(y, C, stats=(2 * one, zero, one, one), epsilon=0.0)
    second = b.bn(y, C, stats=(4 * one, -2 * one, zero, 4 * one), epsilon=0.0)
    b.output(b.node("Relu", first)).output(b.node("Sigmoid", second))
    check_folds(b.model())


# Who else reads the tensor that a shift goes into


def beside(reader, scale, *, dtype="float32", shift=1.0):
    """A BN whose shift could only go up, before its scale, and another reader of its input."""
    b = Builder(17, dtype)
    x = b.node("Div", b.input(2, C, 6, 6), b.const(b.rng.uniform(1, 2, (C, 1, 1))))
    stats = (np.full(C, scale), np.full(C, shift), np.zeros(C), np.ones(C))
    y = b.bn(x, C, stats=stats, epsilon=0.0)
    # Padding takes no shift, and the Sigmoid behind the Conv nothing at all.
    b.output(b.node("Sigmoid", b.conv(y, C, 4, **PADDED))).output(reader(b, x))
    return b.model()


def instance(b, x, *, epsilon=0.1):
    return b.node("InstanceNormalization", x, b.normal(C), b.normal(C), epsilon=epsilon)


def layer(b, x):
    return b.node("LayerNormalization", x, b.normal(6, 6), b.normal(6, 6), axis=2)


@pytest.mark.parametrize("reader", [instance, layer])
@pytest.mark.parametrize(
    ("dtype", "scale"), [("float32", 1e-6), ("float16", 1e-3), ("float64", 1e-12)]
)
def test_who_takes_the_mean_off_reads_no_shifted_tensor(reader, dtype, scale):
    """The shift before the scale is ``1/scale``: beside it the tensor has hardly a digit."""
    check_kept(beside(reader, scale, dtype=dtype), Reason.SEVERAL_READERS)


def test_who_divides_by_the_spread_may_read_a_scaled_tensor():
    """A scale costs it no digits."""
    b = Builder()
    x = b.node("Div", b.input(2, C, 6, 6), b.const(b.rng.uniform(1, 2, (C, 1, 1))))
    y = b.bn(x, C, stats=(np.full(C, 0.3), *([np.zeros(C)] * 2), np.ones(C)), epsilon=0.0)
    b.output(b.node("Sigmoid", y)).output(instance(b, x, epsilon=0.0))
    check_folds(b.model())


@pytest.mark.parametrize("op", ["Shape", "Size"])
def test_who_reads_no_values_may_read_a_shifted_tensor(op):
    def reader(b, x):
        return b.node("Cast", b.node(op, x), to=TensorProto.FLOAT)

    check_folds(beside(reader, 0.3))

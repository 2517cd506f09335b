import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException
from support.build import Builder
from support.folding import check_folds, check_kept, feeds_for, run
from support.routes import C, ints, statistics

from normswap.graph.reasons import Reason

SIGNS = {"ReduceMax": "nonnegative", "ReduceMin": "nonnegative"}
AFFINE = pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"])


def reduce(b, op, y, axes, **attrs):
    as_input = b.opset >= 18 or (op == "ReduceSum" and b.opset >= 13)
    if as_input:
        return b.node(op, y, *([ints(b, *axes)] if axes else []), **attrs)
    return b.node(op, y, **({"axes": axes} if axes else {}), **attrs)


def up(op, axes=(2, 3), *, opset=17, dtype="float32", signs="mixed", shift=True, **attrs):
    b = Builder(opset, dtype)
    y = reduce(b, op, b.conv(b.input("N", 4, 7, 7), 4, C), axes, **attrs)
    y = b.bn(y, C, stats=statistics(b, C, signs=signs, shift=shift))
    return b.output(b.node("Sigmoid", y)).model()


def down(op, axes=(2, 3), *, opset=17, dtype="float32", signs="mixed", shift=True, **attrs):
    b = Builder(opset, dtype)
    y = b.bn(b.input("N", C, 3, 4), C, stats=statistics(b, C, signs=signs, shift=shift))
    y = reduce(b, op, y, axes, **attrs)
    if attrs.get("keepdims", 1):
        y = b.node("Flatten", y)
    return b.output(b.node("Gemm", y, b.normal(C, 3), b.normal(3))).model()


@AFFINE
@pytest.mark.parametrize("opset", [7, 11, 13, 18])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_over_space(op, opset, keepdims):
    options = {"opset": opset, "keepdims": keepdims, "signs": SIGNS.get(op, "mixed")}
    check_folds(up(op, **options))
    check_folds(down(op, **options))


@AFFINE
def test_in_double(op):
    check_folds(up(op, dtype="float64", signs=SIGNS.get(op, "mixed")))
    check_folds(down(op, dtype="float64", signs=SIGNS.get(op, "mixed")))


@pytest.mark.parametrize("axes", [[-1], [2], [3, -2]], ids=str)
def test_axes_may_count_from_the_end(axes):
    check_folds(up("ReduceMean", axes, keepdims=1))


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_negative_scales_are_kept(op):
    check_kept(up(op), Reason.NEGATIVE_SCALE)
    check_kept(down(op), Reason.NEGATIVE_SCALE)


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2"])
def test_norms_take_a_scale(op):
    check_folds(up(op, signs="nonnegative", shift=False))
    check_folds(down(op, shift=False))
    check_kept(up(op, signs="nonnegative"), Reason.NONLINEAR)
    check_kept(up(op, shift=False), Reason.NEGATIVE_SCALE)
    check_kept(down(op), Reason.NONLINEAR)


def test_pointnet():
    b = Builder()
    y = b.node("Conv", b.input("N", 3, "P"), b.normal(C, 3, 1), b.normal(C))
    y = b.node("ReduceMax", y, axes=[2], keepdims=0)
    b.output(b.node("Sigmoid", b.bn(y, C, stats=statistics(b, C, signs="nonnegative"))))
    check_folds(b.model(), sizes={"P": 5})


def test_a_sum_of_unknown_length_takes_a_scale_only():
    for shift in (True, False):
        b = Builder()
        y = b.node("Conv", b.input("N", 3, "P"), b.normal(C, 3, 1))
        y = reduce(b, "ReduceSum", y, [2], keepdims=0)
        b.output(b.node("Sigmoid", b.bn(y, C, stats=statistics(b, C, shift=shift))))
        if shift:
            check_kept(b.model(), Reason.SHAPE_UNKNOWN)
        else:
            check_folds(b.model(), sizes={"P": 5})


@AFFINE
def test_over_the_channels_is_kept(op):
    b = Builder()
    y = b.conv(b.input(2, 4, 6, 6), 4, 4)  # (2, 4, 4, 4)
    y = reduce(b, op, y, [1], keepdims=0)
    b.output(b.node("Sigmoid", b.bn(y, 4, stats=statistics(b, 4, signs="nonnegative"))))
    check_kept(b.model(), Reason.AXIS)


def test_down_over_the_channels():
    # mean(x + t) = mean(x) + mean(t), but there is no such thing for a scale per channel.
    check_kept(down_over_channels(scale=True), Reason.AXIS)
    check_folds(down_over_channels(scale=False))


def down_over_channels(*, scale):
    b = Builder()
    gain, bias, mean, var = b.statistics(C)
    if not scale:
        gain, var = gain * 0 + 1, var * 0 + 1
    y = b.bn(b.input("N", C, 3, 4), C, stats=(gain, bias, mean, var), epsilon=0.0)
    y = reduce(b, "ReduceMean", y, [1], keepdims=1)
    return b.output(b.node("Conv", y, b.normal(2, 1, 2, 2))).model()


@pytest.mark.parametrize("noop", [0, 1])
def test_no_axes_are_all_axes_or_none(noop):
    b = Builder(18)
    x = b.input("N", C, 3, 4)
    y = reduce(b, "ReduceMean", b.conv(x, C, C, kernel=(1, 1)), [], noop_with_empty_axes=noop)
    if noop:
        b.output(b.node("Sigmoid", b.bn(y, C)))
    else:
        b.output(b.node("Sigmoid", b.bn(y, 1)))
    model = b.model()
    try:
        run(model, feeds_for(model))
    except RuntimeException:
        pytest.skip("this onnxruntime does not know noop_with_empty_axes")
    check_folds(model)


def test_axes_known_at_run_time_only_are_kept():
    b = Builder(18)
    axes = b.input(1, name="axes", elem_type=7)
    y = b.node("ReduceMean", b.conv(b.input("N", 4, 7, 7), 4, C), axes, keepdims=1)
    b.output(b.node("Sigmoid", b.bn(y, C)), ("N", C, "H", "W"))
    check_kept(b.model(), Reason.NOT_CONSTANT)

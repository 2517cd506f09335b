import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, upward

from normswap.graph.reasons import Reason


def prelu(b, y):
    return b.node("PRelu", y, b.normal(C, 1, 1))


def clip(b, y):
    return b.node("Clip", y, b.const(0.0))


HOMOGENEOUS = {
    "Relu": lambda b, y: b.node("Relu", y),
    "LeakyRelu": lambda b, y: b.node("LeakyRelu", y, alpha=0.3),
    "Abs": lambda b, y: b.node("Abs", y),
    "PRelu": prelu,
    "Clip": clip,
}
every = pytest.mark.parametrize("op", HOMOGENEOUS.values(), ids=HOMOGENEOUS)


@every
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_scale_passes(op, dtype):
    check_folds(upward(op, signs="nonnegative", shift=False, dtype=dtype))
    check_folds(downward(op, signs="nonnegative", shift=False, dtype=dtype))


@every
def test_a_shift_does_not(op):
    check_kept(upward(op, signs="nonnegative"), Reason.NONLINEAR)
    check_kept(downward(op, signs="nonnegative"), Reason.NONLINEAR)


@every
def test_a_negative_scale_does_not(op):
    plan = check_kept(upward(op, shift=False), Reason.NEGATIVE_SCALE)
    assert "channels (" in plan.kept[0].detail


def test_a_negative_scale_of_what_is_rectified():
    # |s*x| = |s| * |x|, but max(s*x, 0) is another thing.
    check_folds(downward(HOMOGENEOUS["Abs"], shift=False))
    check_kept(downward(HOMOGENEOUS["Relu"], shift=False), Reason.NEGATIVE_SCALE)


@pytest.mark.parametrize("opset", [7, 10, 11, 13])
@pytest.mark.parametrize(("low", "high"), [(0.0, None), (None, 0.0), (None, None), (0.0, 3.5e38)])
def test_clip_without_limits_but_zero(opset, low, high):
    if opset < 11:
        limits = {k: v for k, v in (("min", low), ("max", high)) if v is not None and v < 3e38}
        model = upward(
            lambda b, y: b.node("Clip", y, **limits), opset=opset, signs="nonnegative", shift=False
        )
    else:

        def op(b, y):
            names = [
                "" if v is None else b.const(np.float32(min(v, 3.4028235e38))) for v in (low, high)
            ]
            return b.node("Clip", y, *names)

        model = upward(op, opset=opset, signs="nonnegative", shift=False)
    check_folds(model)


@pytest.mark.parametrize("limits", [(0.0, 6.0), (-1.0, 1.0), (0.1, None)], ids=str)
def test_clip_with_limits_is_kept(limits):
    def op(b, y):
        return b.node("Clip", y, *("" if v is None else b.const(v) for v in limits))

    check_kept(upward(op, signs="nonnegative", shift=False), Reason.NONLINEAR)


def test_clip_whose_limit_is_an_input_is_kept():
    def op(b, y):
        return b.node("Clip", y, b.input(name="low"))

    check_kept(upward(op, signs="nonnegative", shift=False), Reason.NONLINEAR)


def test_a_slope_is_no_constant_of_the_affine():
    b = Builder()
    x = b.input("N", C, 4, 4)
    slope = b.bn(b.node("GlobalMaxPool", b.input("N", C, 3, 3, name="z")), C, positive=True)
    b.output(b.node("PRelu", x, slope))
    check_kept(b.model(), Reason.OPERATOR)


@pytest.mark.parametrize("op", ["Sigmoid", "HardSwish", "Elu", "Softplus", "Exp", "Tanh"])
def test_others_are_kept(op):
    model = upward(lambda b, y: b.node(op, y), signs="nonnegative", shift=False)
    check_kept(model, Reason.OPERATOR)

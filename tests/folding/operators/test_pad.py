import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, ints, statistics, upward

from normswap.graph.reasons import Reason


def pad(*pads, mode="constant", value=None):
    def op(b, y):
        if b.opset < 11:
            extra = {} if value is None else {"value": value}
            return b.node("Pad", y, pads=list(pads), mode=mode, **extra)
        constants = [] if value is None else [b.const(value)]
        return b.node("Pad", y, ints(b, *pads), *constants, mode=mode)

    return op


SPACE = (0, 0, 1, 2, 0, 0, 2, 1)
both = pytest.mark.parametrize("build", [upward, downward])


@both
@pytest.mark.parametrize("mode", ["edge", "reflect"])
@pytest.mark.parametrize("opset", [7, 10, 11, 13, 18])
def test_copies_of_what_is_inside(build, mode, opset):
    check_folds(build(pad(*SPACE, mode=mode), opset=opset))


@both
def test_wrap(build):
    check_folds(build(pad(*SPACE, mode="wrap"), opset=19))


@both
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zeros_under_a_scale(build, dtype):
    check_folds(build(pad(*SPACE), shift=False, dtype=dtype))
    check_folds(build(pad(*SPACE, value=0.0), shift=False, dtype=dtype))


@both
@pytest.mark.parametrize("value", [None, 0.0, 1.5])
@pytest.mark.parametrize("opset", [10, 17])
def test_zeros_under_a_shift_are_kept(build, value, opset):
    check_kept(build(pad(*SPACE, value=value), opset=opset), Reason.ZERO_PADDING)


@both
def test_another_constant_under_a_scale_is_kept(build):
    check_kept(build(pad(*SPACE, value=1.5), shift=False), Reason.ZERO_PADDING)


@both
def test_a_constant_that_the_affine_leaves_as_it_is(build):
    # s * 2 + t = 2 in every channel.
    b = Builder()
    x = b.input("N", C, 7, 7)
    y = b.conv(x, C, C, kernel=(1, 1)) if build is upward else x
    scale = b.rng.uniform(0.5, 2, C).astype(np.float32)
    stats = (scale, (2 - 2 * scale).astype(np.float32), np.zeros(C), np.ones(C))
    op = pad(*SPACE, value=2.0)
    if build is upward:
        b.output(b.node("Sigmoid", b.bn(op(b, y), C, stats=stats, epsilon=0.0)))
    else:
        b.output(b.conv(op(b, b.bn(y, C, stats=stats, epsilon=0.0)), C, 3))
    check_folds(b.model())


@both
def test_minus_infinity_before_a_maximum(build):
    def op(b, y):
        y = pad(*SPACE, value=-np.inf)(b, y)
        return b.node("MaxPool", y, kernel_shape=[3, 3])

    b = Builder()
    x = b.input("N", C, 7, 7)
    stats = b.statistics(C, positive=True)
    if build is upward:
        y = op(b, b.conv(x, C, C, kernel=(1, 1)))
        b.output(b.node("Sigmoid", b.bn(y, C, stats=stats)))
    else:
        b.output(b.conv(op(b, b.bn(x, C, stats=stats)), C, 3))
    check_folds(b.model())


@both
def test_negative_padding_crops(build):
    check_folds(build(pad(0, 0, -1, 0, 0, 0, 0, -2)))


def test_cropped_channels():
    op = pad(0, -1, 0, 0, 0, -2, 0, 0)
    check_folds(upward(op, channels=C - 3))
    check_folds(downward(op, channels=C - 3))


def test_padded_channels():
    # Down, what is padded has the identity; up, it would have to stay as it is.
    op = pad(0, 1, 0, 0, 0, 2, 0, 0)
    check_folds(downward(op, channels=C + 3))
    check_kept(upward(op, channels=C + 3), Reason.ZERO_PADDING)


def test_padded_channels_that_the_affine_leaves_as_they_are():
    b = Builder()
    y = pad(0, 1, 0, 0, 0, 2, 0, 0)(b, b.conv(b.input("N", 4, 6, 6), 4, C))
    scale, bias, mean, var = b.statistics(C + 3)
    for array in (bias, mean):
        array[[0, -1, -2]] = 0
    b.output(b.node("Sigmoid", b.bn(y, C + 3, stats=(scale, bias, mean, var))))
    check_folds(b.model())


def test_reflected_channels():
    op = pad(0, 1, 0, 0, 0, 1, 0, 0, mode="reflect")
    check_folds(downward(op, channels=C + 2))
    check_kept(upward(op, channels=C + 2), Reason.AXIS)


def test_axes_of_version_18():
    def op(b, y):
        return b.node("Pad", y, ints(b, 1, 1), "", ints(b, -1), mode="edge")

    check_folds(upward(op, opset=18))


@pytest.mark.parametrize("which", ["pads", "value"])
def test_what_is_known_at_run_time_only_is_kept(which):
    b = Builder()
    y = b.conv(b.input("N", 4, 6, 6), 4, C)
    if which == "pads":
        y = b.node("Pad", y, b.input(8, name="pads", elem_type=7))
    else:
        y = b.node("Pad", y, ints(b, *SPACE), b.input(name="value"))
    y = b.bn(y, C, stats=statistics(b, C, shift=False))
    b.output(b.node("Sigmoid", y), ("N", C, "H", "W"))
    check_kept(b.model(), Reason.NOT_CONSTANT)

import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, ints, upward

from normswap.graph.reasons import Reason

both = pytest.mark.parametrize("build", [upward, downward])


def resize(*scales, **attrs):
    def op(b, y):
        factors = b.const(np.array(scales, dtype=float), dtype=np.float32)
        if b.opset < 11:
            return b.node("Resize", y, factors, **attrs)
        roi = "" if b.opset >= 13 else b.const(np.zeros(0), dtype=np.float32)
        return b.node("Resize", y, roi, factors, **attrs)

    return op


@both
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]
)
@pytest.mark.parametrize("opset", [11, 19])
def test_modes(build, mode, coordinates, opset):
    op = resize(1, 1, 2, 1.5, mode=mode, coordinate_transformation_mode=coordinates)
    check_folds(build(op, opset=opset))


@both
def test_downsampling(build):
    check_folds(build(resize(1, 1, 0.6, 0.7, mode="linear")))


@both
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_10(build, mode):
    check_folds(build(resize(1, 1, 2, 2, mode=mode), opset=10))


@both
@pytest.mark.parametrize("opset", [7, 9])
def test_upsample(build, opset):
    def op(b, y):
        if opset == 7:
            return b.node("Upsample", y, scales=[1.0, 1.0, 2.0, 2.0], mode="nearest")
        return b.node("Upsample", y, b.const([1.0, 1.0, 2.0, 2.0]), mode="nearest")

    check_folds(build(op, opset=opset))


@both
def test_sizes(build):
    def op(b, y):
        return b.node("Resize", y, "", "", ints(b, 2, C, 7, 9), mode="linear")

    check_folds(build(op, batch=2))


@both
def test_sizes_of_some_axes(build):
    def op(b, y):
        return b.node("Resize", y, "", "", ints(b, 7, 9), mode="linear", axes=[2, 3])

    check_folds(build(op, opset=18))


@both
def test_exclude_outside_takes_a_scale_only(build):
    op = resize(1, 1, 2, 2, mode="cubic", exclude_outside=1)
    check_folds(build(op, shift=False))
    check_kept(build(op), Reason.SHIFT)


def test_a_constant_beyond_the_border_is_kept():
    def op(b, y):
        roi = b.const([0, 0, -0.3, -0.3, 1, 1, 1.3, 1.3])
        mode = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 7.0}
        return b.node("Resize", y, roi, "", ints(b, 2, C, 5, 5), mode="linear", **mode)

    check_kept(upward(op, batch=2), Reason.OPERATOR)


def test_resampled_channels_are_kept():
    b = Builder()
    y = b.node("Unsqueeze", b.conv(b.input(2, 4, 6, 6), 4, 3), ints(b, 0))
    y = b.node("Resize", y, "", b.const([1.0, 1.0, 2.0, 1.0, 1.0]), mode="nearest")
    b.output(b.node("Sigmoid", b.bn(b.node("Squeeze", y, ints(b, 0)), 6)))
    check_kept(b.model(), Reason.AXIS)


def test_a_factor_that_rounds_to_the_same_size_is_kept():
    # floor(6 * 1.1) = 6, but what was at 5 is at 4.5 now.
    op = resize(1, 1.1, 1, 1, mode="linear", coordinate_transformation_mode="asymmetric")
    check_kept(upward(op), Reason.AXIS)


def test_scales_known_at_run_time_only_are_kept():
    b = Builder()
    y = b.conv(b.input("N", 4, 6, 6), 4, C)
    y = b.node("Resize", y, "", b.input(4, name="scales", elem_type=1), mode="nearest")
    b.output(b.node("Sigmoid", b.bn(y, C)), ("N", C, "H", "W"))
    check_kept(b.model(), Reason.AXIS)

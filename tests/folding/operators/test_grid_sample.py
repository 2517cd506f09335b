import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, upward

from normswap.graph.reasons import Reason

both = pytest.mark.parametrize("build", [upward, downward])


def grid_sample(mode, *, batch=2, space=(5, 4), **attrs):
    """GridSample at points of which many are beyond the border."""

    def op(b, y):
        points = b.rng.uniform(-1.6, 1.6, size=(batch, *space, len(space)))
        return b.node("GridSample", y, b.const(points, dtype=np.float32), mode=mode, **attrs)

    return op


@both
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_pixels_of_the_border(build, mode, padding, align):
    op = grid_sample(mode, padding_mode=padding, align_corners=align)
    check_folds(build(op, batch=2))


@both
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("opset", [20, 22])
def test_later_opsets(build, mode, opset):
    check_folds(build(grid_sample(mode, padding_mode="border"), batch=2, opset=opset))


@both
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", [{}, {"padding_mode": "zeros"}], ids=["default", "zeros"])
def test_zeros_beyond_the_border_take_a_scale_only(build, mode, padding):
    op = grid_sample(mode, **padding)
    check_folds(build(op, shift=False, batch=2))
    check_kept(build(op, batch=2), Reason.SHIFT)


@both
def test_points_known_at_run_time_only(build):
    def op(b, y):
        points = b.input("N", 5, 4, 2, name="grid")
        return b.node("GridSample", y, points, padding_mode="reflection")

    check_folds(build(op))


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_volumes(mode):
    b = Builder(20)
    y = b.conv(b.input(2, 3, 4, 4, 4), 3, C, kernel=(1, 1, 1))
    y = grid_sample(mode, space=(3, 4, 2), padding_mode="border")(b, y)
    b.output(b.node("Sigmoid", b.bn(y, C)))
    check_folds(b.model())


def test_the_points_are_kept():
    b = Builder()
    points = b.bn(b.input(2, 4, 3, 2, name="grid"), 4, positive=True)
    y = b.node("GridSample", b.input(2, 3, 5, 5), points, padding_mode="border")
    b.output(b.conv(y, 3, 2))
    check_kept(b.model(), Reason.OPERATOR)


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_scales_along_space_are_kept(padding):
    # What the normalization scales is an axis of space for GridSample.
    b = Builder()
    y = b.node("Transpose", b.bn(b.input(2, 5, 3, 4), 5), perm=[0, 2, 1, 3])
    y = grid_sample("nearest", padding_mode=padding)(b, y)
    b.output(b.conv(y, 3, 2, kernel=(1, 1)))
    check_kept(b.model(), Reason.AXIS if padding == "border" else Reason.SHIFT)


def test_the_pixels_and_their_points():
    # One tensor is both: it can't be folded as pixels, since it is the points too.
    b = Builder(20)
    y = b.bn(b.input(2, 2, 4, 2), 2, positive=True)
    z = b.node("GridSample", y, y, padding_mode="border", mode="nearest")
    b.output(b.conv(z, 2, 3, kernel=(1, 1)))
    check_kept(b.model(), Reason.OPERATOR)

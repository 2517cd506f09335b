import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, ints, upward

from normswap.graph.reasons import Reason


def cut(starts, ends, axes, steps=None):
    def op(b, y):
        if b.opset < 10:
            return b.node("Slice", y, starts=starts, ends=ends, axes=axes)
        parts = [starts, ends, axes] + ([steps] if steps else [])
        return b.node("Slice", y, *(ints(b, *part) for part in parts))

    return op


@pytest.mark.parametrize("opset", [7, 9, 10, 13, 22])
def test_a_crop_of_space(opset):
    check_folds(upward(cut([1, 0], [4, -1], [2, 3]), opset=opset))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("start", "end", "step", "channels"),
    [
        (2, 5, 1, 3),
        (-4, 100, 1, 4),
        (0, 6, 2, 3),
        (1, -1, 3, 2),
        (-1, -7, -2, 3),
        (4, 0, -1, 4),
        (100, -(2**63), -1, 6),
        (-100, 2**63 - 1, 5, 2),
    ],
)
def test_channels(start, end, step, channels, dtype):
    op = cut([start], [end], [1], [step])
    check_folds(upward(op, channels=channels, dtype=dtype))
    check_folds(downward(op, channels=channels, dtype=dtype))


def test_axes_left_out_are_the_first():
    def op(b, y):
        return b.node("Slice", y, ints(b, 0, 1), ints(b, 2, 5))

    check_folds(upward(op, channels=4, batch=2))


def test_bounds_computed_at_run_time_matter_only_along_the_affine():
    def op(axis):
        def add(b, y):
            end = b.input(1, name="end", elem_type=7)
            return b.node("Slice", y, ints(b, 0), end, ints(b, axis))

        return add

    check_kept(upward(op(1), channels=2), Reason.AXIS)
    b = Builder()
    y = op(2)(b, b.conv(b.input("N", 4, 7, 7), 4, C))
    b.output(b.node("Sigmoid", b.bn(y, C)), ("N", C, "H", 5))
    check_folds(b.model())


def test_two_slices_with_an_affine_each():
    b = Builder()
    y = b.conv(b.input("N", 4, 7, 7), 4, C)
    b.output(b.node("Sigmoid", b.bn(cut([0], [2], [1])(b, y), 2)))
    b.output(b.node("Sigmoid", b.bn(cut([2], [6], [1])(b, y), 4)))
    check_folds(b.model())


def test_two_slices_of_one_channel_each():
    # The affine of a single channel varies along no axis, and must not reach the other one.
    b = Builder()
    y = b.conv(b.input("N", 4, 7, 7), 4, 2)
    for channel in range(2):
        part = cut([channel], [channel + 1], [1])(b, y)
        b.output(b.node("Sigmoid", b.bn(part, 1)))
    check_folds(b.model())


def test_what_is_read_elsewhere_takes_the_identity():
    b = Builder()
    y = b.conv(b.input("N", 4, 7, 7), 4, C)
    b.output(b.node("Sigmoid", b.bn(cut([0], [2], [1])(b, y), 2)))
    b.output(b.node("Sigmoid", cut([2], [6], [1])(b, y)))
    _folded, plan = check_folds(b.model())
    assert len(plan.folded) == 1


def test_channels_that_overlap_are_kept():
    b = Builder()
    y = b.conv(b.input("N", 4, 7, 7), 4, C)
    b.output(b.node("Sigmoid", b.bn(cut([0], [3], [1])(b, y), 3)))
    b.output(b.node("Sigmoid", cut([2], [6], [1])(b, y)))
    check_kept(b.model(), Reason.SEVERAL_READERS)


def test_half_of_space_beside_the_other_half_is_kept():
    b = Builder()
    y = b.conv(b.input("N", 4, 8, 8), 4, C)
    b.output(b.node("Sigmoid", b.bn(cut([0], [3], [2])(b, y), C)))
    b.output(b.node("Sigmoid", cut([3], [6], [2])(b, y)))
    check_kept(b.model(), Reason.SEVERAL_READERS)


def test_focus():
    # YOLO: four strided slices and a Concat, BN before them all.
    def op(b, y):
        parts = [cut([i, j], [6, 6], [2, 3], [2, 2])(b, y) for i in (0, 1) for j in (0, 1)]
        return b.node("Concat", *parts, axis=1)

    check_folds(downward(op, channels=4 * C))


def test_bounds_that_nodes_compute():
    # As PyTorch exports them without constant folding.
    def op(b, y):
        zero = b.node("Constant", value=onnx_scalar(0))
        two = b.node("Constant", value=onnx_scalar(2))
        one = b.node("Constant", value=onnx_scalar(1))
        bounds = [b.node("Unsqueeze", k, ints(b, 0)) for k in (zero, two, one)]
        return b.node("Slice", y, *bounds)

    check_folds(upward(op, channels=2))


def onnx_scalar(value):
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array(value, dtype=np.int64))

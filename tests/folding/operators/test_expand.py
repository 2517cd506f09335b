import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, ints, upward

from normswap.graph.reasons import Reason


def test_space_is_expanded():
    def op(b, y):
        return b.node("Expand", b.node("GlobalAveragePool", y), ints(b, 1, C, 3, 4))

    check_folds(upward(op))
    check_folds(downward(op))


def test_axes_are_added():
    def op(b, y):
        return b.node("Squeeze", b.node("Expand", y, ints(b, 1, 1, 1, 1, 1)), ints(b, 0))

    check_folds(upward(op))
    check_folds(downward(op))


def test_expanded_channels_are_kept():
    b = Builder()
    y = b.node("Expand", b.conv(b.input(2, 4, 6, 6), 4, 1), ints(b, 2, 4, 4, 4))
    b.output(b.node("Sigmoid", b.bn(y, 4)))
    check_kept(b.model(), Reason.AXIS)


@pytest.mark.parametrize("repeats", [(1, 1, 2, 3), (2, 1, 1, 1), (1, 1, 1, 1)], ids=str)
def test_tiled_space(repeats):
    def op(b, y):
        return b.node("Tile", y, ints(b, *repeats))

    check_folds(upward(op, batch=2))
    check_folds(downward(op, batch=2))


def test_tiled_channels():
    def op(b, y):
        return b.node("Tile", y, ints(b, 1, 2, 1, 1))

    check_folds(downward(op, channels=2 * C))
    check_kept(upward(op, channels=2 * C), Reason.AXIS)
    b = Builder()
    y = op(b, b.conv(b.input(2, 4, 6, 6), 4, 3))
    b.output(b.node("Sigmoid", b.bn(y, 6, stats=[np.tile(v, 2) for v in b.statistics(3)])))
    check_folds(b.model())


def test_repeats_known_at_run_time_only():
    def op(b, y):
        return b.node("Tile", y, b.input(4, name="repeats", elem_type=7))

    b = Builder()
    y = op(b, b.bn(b.input(2, C, 4, 4), C))
    b.output(b.node("Conv", y, b.normal(3, C, 1, 1)), ("N", 3, "H", "W"))
    check_kept(b.model(), Reason.SHAPE_UNKNOWN)

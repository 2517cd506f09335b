import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, upward

from normswap.graph.reasons import Reason


def take(indices, axis):
    def op(b, y):
        return b.node("Gather", y, b.const(np.array(indices, dtype=np.int64)), axis=axis)

    return op


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("indices", [[3, 0, -1, 2], [5], [0, 1, 2, 3, 4, 5]], ids=str)
def test_channels(indices, dtype):
    model = upward(take(indices, 1), channels=len(indices), dtype=dtype)
    check_folds(model)


def test_a_scalar_index_drops_its_axis():
    check_folds(upward(take(1, 3)))
    b = Builder()
    y = take(1, -1)(b, b.bn(b.input("N", C, 5, 3), C))
    b.output(b.node("Conv", y, b.normal(3, C, 2)))
    check_folds(b.model())


def test_indices_of_two_axes():
    # (N, C, ...) becomes (N, 3, 2, ...): two of the Conv's channels are one of the BN's.
    b = Builder()
    y = take([[0, 1], [2, 3], [4, 5]], 1)(b, b.conv(b.input("N", 4, 7, 7), 4, C))
    b.output(b.node("Sigmoid", b.bn(y, 3)))
    check_folds(b.model())


def test_down_a_channel_may_be_taken_twice():
    check_folds(downward(take([1, 1, 0], 1), channels=3))


def test_up_a_channel_taken_twice_is_kept():
    check_kept(upward(take([1, 1, 0, 2], 1), channels=4), Reason.AXIS)


def test_up_a_channel_taken_twice_for_the_same():
    b = Builder()
    y = take([1, 0, 1, 0], 1)(b, b.conv(b.input("N", 4, 7, 7), 4, 2))
    b.output(b.node("Sigmoid", b.bn(y, 4, stats=[np.tile(v, 2) for v in b.statistics(2)])))
    check_folds(b.model())


def test_channels_that_others_gather_take_the_identity():
    b = Builder()
    y = b.conv(b.input("N", 4, 7, 7), 4, C)
    b.output(b.node("Sigmoid", b.bn(take([4, 0], 1)(b, y), 2)))
    b.output(b.node("Sigmoid", b.bn(take([1], 1)(b, y), 1)))
    b.output(b.node("Sigmoid", take([2, 3, 5], 1)(b, y)))
    check_folds(b.model())


def test_embedding():
    # The table takes the affine of its columns, whichever rows are looked up.
    b = Builder()
    tokens = b.input("N", "L", name="tokens", elem_type=7)
    y = b.node("Gather", b.normal(9, 5), tokens)
    b.output(b.node("Sigmoid", b.bn(b.node("Transpose", y, perm=[0, 2, 1]), 5)))
    check_folds(b.model())


@pytest.mark.parametrize("up", [True, False])
def test_channels_chosen_at_run_time_are_kept(up):
    def op(b, y):
        return b.node("Gather", y, b.input(4, name="i", elem_type=7), axis=1)

    check_kept((upward if up else downward)(op, channels=4), Reason.NOT_CONSTANT)


def test_pixels_chosen_at_run_time():
    def op(b, y):
        return b.node("Gather", y, b.input(4, name="i", elem_type=7), axis=2)

    check_folds(upward(op))
    check_folds(downward(op))

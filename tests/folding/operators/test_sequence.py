import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.graphs import live_ops
from support.routes import C, downward, ints, upward

from normswap.graph.reasons import Reason


def place(b, value):
    return b.const(np.array(value, np.int64))


def halves(b, y, *sizes):
    sequence = b.node("SplitToSequence", y, ints(b, *(sizes or (2, C - 2))), axis=1)
    return sequence, [b.node("SequenceAt", sequence, place(b, i)) for i in (0, -1)]


def joined(b, y):
    _, parts = halves(b, y)
    return b.node("Concat", *reversed(parts), axis=1)


def test_parts_that_come_together_again():
    check_folds(upward(joined))
    check_folds(downward(joined))


@pytest.mark.parametrize("part", [0, 1])
def test_one_part_is_normalized(part):
    b = Builder()
    _, parts = halves(b, b.conv(b.input("N", 4, 6, 6), 4, C))
    parts[part] = b.bn(parts[part], (2, C - 2)[part])
    b.output(b.node("Concat", *(b.node("Sigmoid", y) for y in parts), axis=1))
    folded, _ = check_folds(b.model())
    assert "BatchNormalization" not in live_ops(folded)


@pytest.mark.parametrize(("size", "channels"), [(None, 1), (4, 2)])
def test_the_last_of_parts_of_one_size(size, channels):
    b = Builder()
    sizes = () if size is None else (place(b, size),)  # and one that is smaller
    y = b.conv(b.input("N", 4, 6, 6), 4, C)
    part = b.node("SequenceAt", b.node("SplitToSequence", y, *sizes, axis=-3), place(b, -1))
    b.output(b.node("Sigmoid", b.bn(part, channels)), ("N", channels, 4, 4))
    check_folds(b.model())


def test_sizes_of_parts_are_known():
    """Where the channels of a part are merged with its pixels."""

    def op(b, y):
        _, parts = halves(b, y, C // 2, C // 2)
        rows = [b.node("Reshape", part, ints(b, 0, C // 2, -1)) for part in parts]
        return b.node("Reshape", b.node("Concat", *rows, axis=1), ints(b, 0, C, 5, 5))

    check_folds(upward(op))


@pytest.mark.parametrize("opset", [11, 12])
def test_sizes_of_parts_are_known_at_old_opsets(opset):
    def op(b, y):
        _, parts = halves(b, y, C // 2, C // 2)
        rows = [b.node("Reshape", part, ints(b, 0, -1)) for part in parts]
        return b.node("Reshape", b.node("Concat", *rows, axis=1), ints(b, 0, C, 5, 5))

    check_folds(upward(op, opset=opset))


def taken_twice(b, y):
    sequence, parts = halves(b, y)
    return parts[0], b.node("SequenceAt", sequence, place(b, 0))


def read_as_a_whole(b, y):
    sequence, parts = halves(b, y)
    return parts[0], b.node("ConcatFromSequence", sequence, axis=1)


def place_at_run_time(b, y):
    sequence, parts = halves(b, y)
    where = b.input(name="place", elem_type=7)
    return parts[0], b.node("SequenceAt", sequence, where)


@pytest.mark.parametrize("taken", [taken_twice, read_as_a_whole, place_at_run_time])
def test_a_part_that_others_see_is_kept(taken):
    b = Builder()
    part, other = taken(b, b.conv(b.input("N", 4, 6, 6), 4, C))
    b.output(b.node("Sigmoid", b.bn(part, 2)), ("N", 2, 4, 4))
    b.output(b.node("Tanh", other), ("N", None, 4, 4))
    check_kept(b.model(), Reason.SEVERAL_READERS)


def test_sizes_that_only_the_runtime_knows_are_kept():
    b = Builder()
    y = b.conv(b.input("N", 4, 6, 6), 4, C)
    sequence = b.node("SplitToSequence", y, b.input(2, name="sizes", elem_type=7), axis=1)
    part = b.node("SequenceAt", sequence, place(b, 0))
    b.output(b.node("Sigmoid", b.bn(part, 2)), ("N", 2, 4, 4))
    check_kept(b.model(), Reason.SHAPE_UNKNOWN)


def test_a_sequence_that_is_not_split_off_a_tensor_is_kept():
    b = Builder()
    y = b.conv(b.input("N", 4, 6, 6), 4, C)
    sequence = b.node("SequenceConstruct", y, b.node("Neg", y))
    b.output(b.node("Sigmoid", b.bn(b.node("SequenceAt", sequence, place(b, 0)), C)))
    check_kept(b.model(), Reason.OPERATOR)

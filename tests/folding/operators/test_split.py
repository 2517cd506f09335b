import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, ints

from normswap.graph.reasons import Reason


def split(b, y, sizes=(2, 4), axis=1):
    if b.opset < 13:
        return b.node("Split", y, outputs=len(sizes), axis=axis, split=list(sizes))
    return b.node("Split", y, ints(b, *sizes), outputs=len(sizes), axis=axis)


def conv(b):
    return b.conv(b.input("N", 4, 8, 8), 4, C)


@pytest.mark.parametrize("opset", [7, 11, 13, 18, 22])
@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)], ids=str)
def test_each_part_has_its_own(opset, which):
    b = Builder(opset)
    for index, part in enumerate(split(b, conv(b))):
        size = (2, 4)[index]
        b.output(b.node("Sigmoid", b.bn(part, size) if index in which else part))
    _, plan = check_folds(b.model())
    assert len(plan.folded) == len(which)


@pytest.mark.parametrize("channels", [6, 7])
def test_parts_by_number(channels):
    b = Builder(18)
    y = b.conv(b.input("N", 4, 8, 8), 4, channels)
    parts = b.node("Split", y, outputs=3, axis=1, num_outputs=3)
    for part, size in zip(parts, (2, 2, 2) if channels == 6 else (3, 3, 1), strict=True):
        b.output(b.node("Sigmoid", b.bn(part, size)))
    check_folds(b.model())


def test_parts_of_one_channel():
    b = Builder()
    for part in split(b, b.conv(b.input("N", 4, 8, 8), 4, 3), (1, 1, 1)):
        b.output(b.node("Sigmoid", b.bn(part, 1)))
    check_folds(b.model())


def test_a_part_of_space_that_alone_is_read():
    b = Builder()
    top, _ = split(b, conv(b), (3, 3), axis=2)
    b.output(b.node("Sigmoid", b.bn(top, C)))
    check_folds(b.model())


def test_one_part_of_a_linear_operator():
    b = Builder()
    y = b.node("Gemm", b.input("N", 5), b.normal(5, 9), b.normal(9))
    q, k, v = split(b, y, (3, 3, 3))
    b.output(b.node("Sigmoid", b.bn(k, 3)))
    b.output(b.node("Mul", q, v))
    check_folds(b.model())


def test_down_to_every_part():
    b = Builder()
    parts = split(b, b.bn(b.input("N", C, 6, 6), C))
    for part, size in zip(parts, (2, 4), strict=True):
        b.output(b.conv(part, size, 3))
    check_folds(b.model())


def test_down_past_a_part_that_nobody_reads():
    b = Builder()
    one, _ = split(b, b.bn(b.input("N", C, 6, 6), C))
    b.output(b.conv(one, 2, 3))
    check_folds(b.model())


def test_down_with_a_part_that_takes_nothing_is_kept():
    b = Builder()
    one, other = split(b, b.bn(b.input("N", C, 6, 6), C))
    b.output(b.conv(one, 2, 3)).output(b.node("Sigmoid", other))
    check_kept(b.model(), Reason.OPERATOR)


def test_half_of_space_is_kept():
    b = Builder()
    top, bottom = split(b, conv(b), (3, 3), axis=2)
    b.output(b.node("Sigmoid", b.bn(top, C))).output(b.node("Sigmoid", bottom))
    check_kept(b.model(), Reason.AXIS)


def test_a_part_that_is_read_elsewhere_too_is_kept():
    b = Builder()
    one, other = split(b, conv(b))
    b.output(b.node("Sigmoid", b.bn(one, 2))).output(b.node("Sigmoid", one))
    b.output(b.node("Sigmoid", other))
    check_kept(b.model(), Reason.SEVERAL_READERS, tensor=one)

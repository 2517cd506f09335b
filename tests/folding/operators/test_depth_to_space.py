import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept

from normswap.graph.reasons import Reason


def up(b, op, before, after, *, sizes=(7, 7), stats=None, **attrs):
    y = b.node(op, b.conv(b.input("N", 4, *sizes), 4, before), blocksize=2, **attrs)
    b.output(b.node("Sigmoid", b.bn(y, after, stats=stats)))
    return b.model()


def down(b, op, before, after, *, sizes=(6, 4), **attrs):
    y = b.node(op, b.bn(b.input("N", before, *sizes), before), blocksize=2, **attrs)
    b.output(b.conv(y, after, 3, kernel=(2, 2)))
    return b.model()


MODES = pytest.mark.parametrize("mode", ["DCR", "CRD"])


@MODES
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(7, 7), ("H", "W")], ids=str)
def test_depth_to_space(mode, dtype, sizes):
    b = Builder(17, dtype)
    check_folds(up(b, "DepthToSpace", 12, 3, sizes=sizes, mode=mode), sizes={"H": 6, "W": 5})


def test_the_default_mode_of_depth_to_space():
    check_folds(up(Builder(9), "DepthToSpace", 12, 3))


@pytest.mark.parametrize("sizes", [(6, 4), ("H", "W")], ids=str)
def test_space_to_depth_down(sizes):
    model = down(Builder(), "SpaceToDepth", 3, 12, sizes=sizes)
    check_folds(model, sizes={"H": 6, "W": 4})


def test_space_to_depth_up_is_kept():
    # The four pixels of a block become channels with an affine each.
    check_kept(up(Builder(), "SpaceToDepth", 3, 12, sizes=(8, 8)), Reason.AXIS)
    check_kept(up(Builder(), "SpaceToDepth", 3, 12, sizes=("H", "W")), Reason.SHAPE_UNKNOWN)


@pytest.mark.parametrize("sizes", [(8, 8), ("H", "W")], ids=str)
def test_space_to_depth_up_where_the_pixels_of_a_block_agree(sizes):
    b = Builder()
    stats = [np.tile(v, 4) for v in b.statistics(3)]
    model = up(b, "SpaceToDepth", 3, 12, sizes=sizes, stats=stats)
    check_folds(model, sizes={"H": 6, "W": 6})


@MODES
def test_depth_to_space_down_is_kept(mode):
    check_kept(down(Builder(), "DepthToSpace", 12, 3, mode=mode), Reason.AXIS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_undoes_the_other(dtype):
    b = Builder(17, dtype)
    y = b.node("SpaceToDepth", b.conv(b.input("N", 4, 8, 8), 4, 3), blocksize=2)
    y = b.node("DepthToSpace", y, blocksize=2, mode="DCR")
    b.output(b.node("Sigmoid", b.bn(y, 3)))
    check_folds(b.model())

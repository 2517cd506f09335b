import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C

from normswap.graph.reasons import Reason


@pytest.mark.parametrize("op", ["Shape", "Size"])
@pytest.mark.parametrize("down", [True, False])
def test_values_are_not_read(op, down):
    b = Builder()
    x = b.input("N", C, 6, 6)
    y = x if down else b.conv(x, C, C)
    b.output(b.node(op, y), elem_type=7)
    y = b.bn(y, C)
    b.output(b.node(op, y), elem_type=7)
    b.output(b.conv(y, C, 3) if down else b.node("Sigmoid", y))
    check_folds(b.model())


def test_something_else_reads_them():
    b = Builder()
    y = b.conv(b.input("N", C, 6, 6), C, C)
    b.output(b.node("Shape", y), elem_type=7).output(b.node("NonZero", y), elem_type=7)
    b.output(b.node("Sigmoid", b.bn(y, C)))
    check_kept(b.model(), Reason.SEVERAL_READERS)

import numpy as np
import pytest
from onnx import TensorProto
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, statistics

from normswap.graph.reasons import Reason


def half_conv(b):
    x = b.node("Cast", b.input("N", 4, 6, 6), to=TensorProto.FLOAT16)
    w = b.const(b.rng.normal(size=(C, 4, 3, 3)), dtype=np.float16)
    return b.node("Conv", x, w)


@pytest.mark.parametrize("how", ["Cast", "CastLike"])
def test_half_precision_before_a_float_batchnorm(how):
    b = Builder()
    y = half_conv(b)
    y = b.node("Cast", y, to=1) if how == "Cast" else b.node("CastLike", y, b.const(1.0))
    b.output(b.node("Sigmoid", b.bn(y, C)))
    check_folds(b.model(), tolerance=6e-3)


def test_double_before_a_float_batchnorm():
    b = Builder()
    x = b.node("Cast", b.input("N", 5), to=TensorProto.DOUBLE)
    y = b.node("MatMul", x, b.const(b.rng.normal(size=(5, C)), dtype=np.float64))
    b.output(b.node("Sigmoid", b.bn(b.node("Cast", y, to=1), C)))
    check_folds(b.model())


def test_down_into_half_precision():
    b = Builder()
    y = b.node("Cast", b.bn(b.input("N", C, 6, 6), C), to=TensorProto.FLOAT16)
    w = b.const(b.rng.normal(size=(3, C, 2, 2)), dtype=np.float16)
    b.output(b.node("Conv", y, w), elem_type=TensorProto.FLOAT16)
    check_folds(b.model(), tolerance=2e-2)


@pytest.mark.parametrize("which", ["scale", "shift"])
def test_an_affine_beyond_half_the_range_is_kept(which):
    b = Builder()
    y = b.node("Cast", half_conv(b), to=1)
    scale, bias, mean, var = statistics(b, C)
    stats = (
        (scale * 1e4, bias, mean * 0, var) if which == "scale" else (scale, bias + 1e4, mean, var)
    )
    b.output(b.node("Sigmoid", b.bn(y, C, stats=stats)))
    check_kept(b.model(), Reason.OVERFLOW)


def test_through_integers_is_kept():
    b = Builder()
    y = b.node("Cast", b.conv(b.input("N", 4, 6, 6), 4, C), to=TensorProto.INT32)
    b.output(b.node("Sigmoid", b.bn(b.node("Cast", y, to=1), C)))
    check_kept(b.model(), Reason.ELEMENT_TYPE)


def test_castlike_reads_no_values_of_its_target():
    b = Builder()
    y = b.bn(b.input("N", C, 6, 6), C)
    b.output(b.conv(y, C, 3)).output(b.node("CastLike", b.input(3, name="z"), y))
    check_folds(b.model())

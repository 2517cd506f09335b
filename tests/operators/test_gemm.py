import itertools

import numpy as np
import pytest
from support.build import DTYPES, Builder
from support.folding import check_folds, check_kept

from normswap.reasons import Reason

M, K, N = 4, 5, 6
C_SHAPES = [None, "", (), (1,), (N,), (1, N), (M, 1), (1, 1), (M, N)]


def gemm_bn(b, c_shape=(N,), *, batch=M, trans_a=0, trans_b=0, **attrs):
    x = b.input(*((K, batch) if trans_a else (batch, K)))
    inputs = [x, b.normal(*((N, K) if trans_b else (K, N)))]
    if c_shape == "":
        inputs.append("")
    elif c_shape is not None:
        inputs.append(b.normal(*c_shape))
    y = b.node("Gemm", *inputs, transA=trans_a, transB=trans_b, **attrs)
    b.output(b.bn(y, N))
    return b.model()


@pytest.mark.parametrize("c_shape", C_SHAPES, ids=str)
@pytest.mark.parametrize(
    ("alpha", "beta"), [(1.0, 1.0), (0.5, -1.5), (2.0, 0.0), (0.0, 3.0), (-1.0, 1.0)]
)
def test_folds_every_addend(c_shape, alpha, beta):
    if c_shape is None and beta == 3.0:
        beta = 1.0
    b = Builder(13)
    folded, _ = check_folds(gemm_bn(b, c_shape, alpha=alpha, beta=beta))
    assert [node.op_type for node in folded.graph.node] == ["Gemm"]


@pytest.mark.parametrize(("trans_a", "trans_b"), list(itertools.product([0, 1], [0, 1])))
@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 21])
def test_folds_every_transposition(trans_a, trans_b, opset):
    c_shape = (N,) if opset >= 11 else (1, N)
    check_folds(gemm_bn(Builder(opset), c_shape, trans_a=trans_a, trans_b=trans_b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_folds_every_type_with_dynamic_batch(dtype):
    check_folds(gemm_bn(Builder(17, dtype), batch="N"))


def test_addend_that_beta_ignores_may_hold_anything():
    b = Builder()
    x = b.input(M, K)
    y = b.node("Gemm", x, b.normal(K, N), b.const(np.full(N, 7.0)), beta=0.0)
    b.output(b.bn(y, N))
    check_folds(b.model())


def test_addend_computed_at_run_time_is_kept():
    b = Builder()
    x, c = b.input(M, K), b.input(N, name="c")
    b.output(b.bn(b.node("Gemm", x, b.normal(K, N), c), N))
    check_kept(b.model(), Reason.NOT_CONSTANT, tensor="c")


def test_constant_left_operand_makes_rows_not_columns():
    b = Builder()
    x = b.input(K, N)
    b.output(b.bn(b.node("Gemm", b.normal(M, K), x), N))
    check_kept(b.model(), Reason.NOT_CONSTANT)


@pytest.mark.parametrize("trans_a", [0, 1])
def test_rows_go_into_a_constant_left_operand(trans_a):
    b = Builder()
    x = b.input(K, N)
    a = b.normal(*((K, M) if trans_a else (M, K)))
    y = b.node("Gemm", a, x, b.normal(M, 1), transA=trans_a, alpha=0.5, beta=2.0)
    b.output(b.bn(b.node("Transpose", y, perm=[1, 0]), M))
    check_folds(b.model())

import itertools

import numpy as np
import pytest
from support.build import DTYPES, Builder
from support.folding import check_folds, check_kept

from normswap.graph.reasons import Reason

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


# Down


def bn_gemm(b, c_shape=(N,), *, trans_b=0, batch=M, **attrs):
    x = b.bn(b.input(batch, K), K)
    inputs = [x, b.normal(*((N, K) if trans_b else (K, N)))]
    if c_shape == "":
        inputs.append("")
    elif c_shape is not None:
        inputs.append(b.normal(*c_shape))
    b.output(b.node("Gemm", *inputs, transB=trans_b, **attrs))
    return b.model()


@pytest.mark.parametrize("c_shape", C_SHAPES, ids=str)
@pytest.mark.parametrize(
    ("alpha", "beta"), [(1.0, 1.0), (0.5, -1.5), (2.0, 0.0), (0.0, 3.0), (-1.0, 1.0)]
)
def test_down_every_addend(c_shape, alpha, beta):
    folded, _ = check_folds(bn_gemm(Builder(13), c_shape, alpha=alpha, beta=beta))
    assert [node.op_type for node in folded.graph.node] == ["Gemm"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trans_b", [0, 1])
def test_down_every_type_with_dynamic_batch(dtype, trans_b):
    tolerance = {"bfloat16": 0.1, "float16": 1e-2}.get(dtype)
    model = bn_gemm(Builder(17, dtype), trans_b=trans_b, batch="N")
    check_folds(model, tolerance=tolerance)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("c_shape", [None, (N,), (M, 1), (M, N)], ids=str)
def test_down_through_the_right_operand(trans_a, c_shape):
    # BN over (N, K), transposed: the axis that is summed is the channels.
    b = Builder()
    a = b.normal(*((K, M) if trans_a else (M, K)))
    addend = [] if c_shape is None else [b.normal(*c_shape)]
    y = b.node(
        "Gemm", a, b.bn(b.input(N, K), K), *addend, transA=trans_a, transB=1, alpha=0.5, beta=2.0
    )
    b.output(y)
    check_folds(b.model())


def test_down_a_transposed_left_operand():
    b = Builder()
    x = b.node("Transpose", b.bn(b.input(M, K), K), perm=[1, 0])
    b.output(b.node("Gemm", x, b.normal(K, N), transA=1))
    check_folds(b.model())


@pytest.mark.parametrize("which", ["rows", "columns"])
def test_down_an_axis_that_is_not_summed_is_kept(which):
    b = Builder()
    y = b.bn(b.input(4, 4), 4)
    b.output(
        b.node("Gemm", y, b.normal(4, 4), transA=1)
        if which == "rows"
        else b.node("Gemm", b.normal(4, 4), y)
    )
    check_kept(b.model(), Reason.AXIS)


def test_down_through_the_addend():
    for scale in (True, False):
        b = Builder()
        gain, bias, mean, var = b.statistics(N)
        stats = (gain, bias, mean, var) if scale else (gain * 0 + 1, bias, mean, var * 0 + 1)
        c = b.bn(b.input(M, N, name="c"), N, stats=stats, epsilon=0.0)
        y = b.node("Gemm", b.input(M, K), b.normal(K, N), c, beta=0.5)
        b.output(b.node("Gemm", y, b.normal(N, 3)))
        if scale:
            check_kept(b.model(), Reason.SCALE)
        else:
            check_folds(b.model())


def test_down_no_constant_is_kept():
    b = Builder()
    b.output(b.node("Gemm", b.bn(b.input(M, K), K), b.input(K, N, name="w")))
    check_kept(b.model(), Reason.NOT_CONSTANT)


def test_down_an_addend_that_is_an_input_is_kept():
    b = Builder()
    b.output(b.node("Gemm", b.bn(b.input(M, K), K), b.normal(K, N), b.input(N, name="c")))
    check_kept(b.model(), Reason.NOT_CONSTANT)

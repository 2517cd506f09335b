"""A BatchNormalization behind the operator Attention goes to its values."""

import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.graphs import live_ops
from support.routes import ints

from normswap.graph.reasons import Reason

T, H, D = 5, 2, 3
"""Positions, heads, and elements of a head."""


def linear(b, x, out):
    return b.node("Add", b.node("MatMul", x, b.normal(H * D, out)), b.normal(out))


def attention(*, heads=H, mask=False, along_heads=False, dtype="float32", **attrs):
    """Attention over [N, T, H * D], and a BatchNormalization of its last axis or of its heads."""
    b = Builder(23, dtype)
    x = b.input("N", T, H * D)
    q, k, v = (linear(b, x, n * D) for n in (H, heads, heads))
    if along_heads:
        q, k, v = (
            b.node("Transpose", b.node("Reshape", y, ints(b, 0, 0, n, D)), perm=[0, 2, 1, 3])
            for y, n in ((q, H), (k, heads), (v, heads))
        )
    else:
        attrs |= {"q_num_heads": H, "kv_num_heads": heads}
    more = [b.const(np.tri(T, dtype=bool), dtype=np.bool_)] if mask else []
    y = b.node("Attention", q, k, v, *more, **attrs)
    y = b.bn(y, H) if along_heads else b.bn(b.node("Transpose", y, perm=[0, 2, 1]), H * D)
    return b.output(b.node("Sigmoid", y)).model()


@pytest.mark.parametrize("attrs", [{}, {"is_causal": 1}, {"softcap": 2.0}, {"scale": 0.3}], ids=str)
def test_elements_of_heads(attrs):
    folded, _ = check_folds(attention(**attrs))
    assert live_ops(folded)[-3:] == ["Attention", "Transpose", "Sigmoid"]


def test_half_precision():
    check_folds(attention(dtype="float16"))


def test_heads():
    check_folds(attention(along_heads=True))


@pytest.mark.parametrize("along_heads", [False, True])
def test_a_head_of_values_that_others_share(along_heads):
    check_kept(attention(heads=1, along_heads=along_heads), Reason.AXIS)


def test_a_mask():
    check_kept(attention(mask=True), Reason.SHIFT)


def test_positions():
    b = Builder(23)
    x = b.input("N", T, H * D)
    q, k, v = (linear(b, x, H * D) for _ in range(3))
    y = b.bn(b.node("Attention", q, k, v, q_num_heads=H, kv_num_heads=H), T)
    check_kept(b.output(y).model(), Reason.AXIS)


def test_values_of_a_cache():
    b = Builder(23)
    q, k, v = (b.input("N", H, T, D, name=name) for name in "qkv")
    past = [b.input("N", H, 4, D, name=name) for name in ("past_k", "past_v")]
    y = b.bn(b.node("Attention", q, k, b.node("Relu", v), "", *past), H)
    check_kept(b.output(y).model(), Reason.OPERATOR)


def test_values_that_others_read():
    b = Builder(23)
    q, k, v = (b.input("N", H, T, D, name=name) for name in "qkv")
    past = [b.input("N", H, 4, D, name=name) for name in ("past_k", "past_v")]
    y, _, values = b.node("Attention", q, k, b.node("Relu", v), "", *past, outputs=3)
    check_kept(b.output(b.bn(y, H)).output(values).model(), Reason.OPERATOR)

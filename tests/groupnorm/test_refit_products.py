"""Linear layers as matrix products of their patches: onnxruntime's own results, and the algebra."""

from __future__ import annotations

from operator import lt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.build import Builder
from support.swapping import run_ort

from normswap.groupnorm.reference import group_normalization, normalize
from normswap.groupnorm.refit import products
from normswap.groupnorm.refit.equations import NormalEquations
from normswap.groupnorm.refit.products import (
    Convolution,
    MatrixProduct,
    Scaling,
    TransposedConvolution,
)


def reproduced(product, weight, x, y):
    """Compare a layer's results with the matrix products of its columns."""
    matrix = product.matrix(weight)
    np.testing.assert_array_equal(product.weight(matrix), weight)
    columns = 0
    for part, results in product.chunks(x, y):
        np.testing.assert_allclose(matrix.swapaxes(1, 2) @ part, results, rtol=2e-4, atol=2e-4)
        columns += part.shape[2] * part.shape[0]
    assert columns * matrix.shape[2] == y.size


@st.composite
def windows(draw, transposed):
    rank = draw(st.integers(1, 3))
    numbers = st.integers(1, 3)
    per_axis = st.lists(numbers, min_size=rank, max_size=rank)
    group = draw(st.sampled_from([1, 1, 2, 3]))
    ins, outs = (group * draw(st.integers(1, 2)) for _ in range(2))
    kernel, strides, dilations = draw(per_axis), draw(per_axis), draw(per_axis)
    attrs = {"group": group, "strides": strides, "dilations": dilations}
    mode = draw(st.sampled_from(["pads", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if mode == "pads":
        most = st.integers(0, 2)
        attrs["pads"] = draw(st.lists(most, min_size=2 * rank, max_size=2 * rank))
    else:
        attrs["auto_pad"] = mode
        if mode.startswith("SAME") and not transposed:  # onnxruntime refuses the two together
            attrs["dilations"] = [1] * rank
    if transposed and mode in ("pads", "VALID"):
        attrs["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
    sizes = [draw(st.integers(7, 9)) for _ in range(rank)]
    shape = (ins, outs // group, *kernel) if transposed else (outs, ins // group, *kernel)
    return shape, (draw(st.integers(1, 3)), ins, *sizes), attrs


def convolved(op, shape, sizes, attrs):
    rng = np.random.default_rng(0)
    weight, x = (rng.normal(size=s).astype(np.float32) for s in (shape, sizes))
    b = Builder(17)
    b.output(b.node(op, b.input(*sizes), b.const(weight), out="y", **attrs), None)
    return weight, x, run_ort(b.model(), x=x)[0]


@settings(max_examples=30, deadline=None)
@given(windows(transposed=False), st.sampled_from([1 << 23, 300]))
def test_patches_of_a_convolution(case, elements):
    shape, sizes, attrs = case
    weight, x, y = convolved("Conv", shape, sizes, attrs)
    how = {name: value for name, value in attrs.items() if name != "group"}
    with pytest.MonkeyPatch.context() as patch:  # whole batches, and rows of one sample
        patch.setattr(products, "ELEMENTS", elements)
        reproduced(Convolution(shape, attrs["group"], how), weight, x, y)


@settings(max_examples=30, deadline=None)
@given(windows(transposed=True))
def test_patches_of_a_transposed_convolution(case):
    shape, sizes, attrs = case
    spatial = zip(sizes[2:], attrs["strides"], shape[2:], attrs["dilations"], strict=True)
    full = [(n - 1) * s + d * (k - 1) + 1 for n, s, k, d in spatial]
    pads = attrs.get("pads", [0] * 2 * len(full))
    if any(size <= pads[i] + pads[len(full) + i] for i, size in enumerate(full)):
        return
    wanted = [n * s for n, s in zip(sizes[2:], attrs["strides"], strict=True)]
    if "SAME" in attrs.get("auto_pad", "") and any(map(lt, full, wanted)):
        return  # onnxruntime pads by less than nothing
    weight, x, y = convolved("ConvTranspose", shape, sizes, attrs)
    how = {name: value for name, value in attrs.items() if name != "group"}
    reproduced(TransposedConvolution(shape, attrs["group"], how), weight, x, y)


@pytest.mark.parametrize(
    ("product", "weight", "x", "make"),
    [
        (MatrixProduct(), (3, 4), (2, 5, 3), lambda x, w: x @ w),
        (MatrixProduct(), (3, 4), (3,), lambda x, w: x @ w),
        (MatrixProduct(first=True, turned=True), (4, 3), (2, 3, 5), lambda x, w: w @ x),
        (MatrixProduct(turned=True, factor=0.5), (4, 3), (6, 3), lambda x, w: 0.5 * x @ w.T),
        (MatrixProduct(upright=True, factor=2.0), (3, 4), (3, 6), lambda x, w: 2 * x.T @ w),
    ],
)
def test_columns_of_a_matrix_product(product, weight, x, make):
    rng = np.random.default_rng(1)
    weight, x = rng.normal(size=weight), rng.normal(size=x)
    reproduced(product, weight, x, make(x, weight))


def test_columns_of_an_affine():
    rng = np.random.default_rng(2)
    x, scale = rng.normal(2, 3, size=(3, 6, 4, 5)), rng.normal(size=6)
    y = group_normalization(x, scale, None, num_groups=2, epsilon=1e-3)
    reproduced(Scaling(2, 1e-3), scale, x, y)


# --- normal equations -------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([1e-4, 1e-2, 1.0]),
    st.sampled_from([1.0, -0.5]),
)
def test_batches_give_the_ridge_regression_of_the_whole(groups, size, results, bias, lam, gain):
    rng = np.random.default_rng(size)
    columns = rng.normal(1, 2, size=(groups, size, 50))
    residual = rng.normal(3, 1, size=(groups, results, 50))
    equations = NormalEquations(groups, size, results, bias=bias)
    for start in range(0, 50, 20):
        part = slice(start, start + 20)
        equations.add(columns[..., part], residual[..., part], gain=gain)
    assert equations.energy == pytest.approx(np.square(residual).sum())
    delta, shift = equations.solve(lam)
    fit = columns.swapaxes(1, 2) @ delta + (0 if shift is None else gain * shift[:, None])
    left = np.square(residual - fit.swapaxes(1, 2)).sum()
    assert equations.left(delta, shift) == pytest.approx(left)
    for group in range(groups):
        design = columns[group].T
        if bias:
            design = np.hstack([design, np.full((50, 1), gain)])
        held = np.sqrt(lam * np.square(design).sum(axis=0).mean())
        whole = np.vstack([design, held * np.eye(design.shape[1])])
        wanted = np.vstack([residual[group].T, np.zeros((design.shape[1], results))])
        best, *_ = np.linalg.lstsq(whole, wanted, rcond=None)
        np.testing.assert_allclose(delta[group], best[:size], atol=1e-8)
        if shift is not None:
            np.testing.assert_allclose(shift[group], best[size], atol=1e-8)
    assert (shift is None) is not bias


def test_of_nothing_nothing_follows():
    equations = NormalEquations(1, 2, 2, bias=False)
    equations.add(np.zeros((1, 2, 5)), np.ones((1, 2, 5)))
    np.testing.assert_array_equal(equations.solve(1e-2)[0], 0)


def test_what_is_not_finite_is_known():
    equations = NormalEquations(1, 1, 1, bias=True)
    equations.add(np.full((1, 1, 2), 1e200), np.ones((1, 1, 2)))
    assert not equations.is_finite


def test_a_scale_is_fitted_to_what_is_normalized():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 4, 6))
    product, wanted = Scaling(2, 0.0), rng.normal(size=4)
    equations = NormalEquations(4, 1, 1, bias=True)
    normalized = normalize(x, num_groups=2, epsilon=0.0)
    for columns, residual in product.chunks(x, wanted[:, None] * normalized + 7):
        equations.add(columns, residual)
    delta, shift = equations.solve(1e-12)
    np.testing.assert_allclose(product.weight(delta), wanted, atol=1e-8)
    np.testing.assert_allclose(shift, np.full((4, 1), 7), atol=1e-8)

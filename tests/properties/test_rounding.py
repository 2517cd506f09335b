"""A folded constant is the exact value, rounded once: at most half a unit in the last place off.

The exact value is computed with fractions from the numbers that are stored in the model.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from onnx import numpy_helper
from support.build import Builder
from support.folding import count, fold_model

HALF = {"float16": 0.5, "bfloat16": 0.5, "float32": 0.5, "float64": 1.0}
"""Units in the last place that a constant may be off; long double is not that much finer."""

SLACK = 1e-6
BITS = {"float16": (11, -24), "bfloat16": (8, -133), "float32": (24, -149), "float64": (53, -1074)}
"""Bits of the significand, and the exponent of the smallest number."""

TYPES = pytest.mark.parametrize("dtype", HALF)
C, M = 5, 4


def fraction(value) -> Fraction:
    return Fraction(float(value))


def square_root(value: Fraction, digits: int = 60) -> Fraction:
    """Return a square root to ``digits`` decimal digits."""
    scale = 10 ** (2 * digits)
    return Fraction(math.isqrt(value.numerator * scale // value.denominator), 10**digits)


def exact_affine(stats, epsilon) -> list[tuple[Fraction, Fraction]]:
    pairs = []
    for scale, bias, mean, var in zip(*stats, strict=True):
        spread = square_root(fraction(var) + fraction(np.float32(epsilon)))
        s = fraction(scale) / spread
        pairs.append((s, fraction(bias) - fraction(mean) * s))
    return pairs


def units_off(stored, exact: Fraction, dtype: str) -> float:
    bits, smallest = BITS[dtype]
    if exact == 0:
        return 0.0 if float(stored) == 0 else math.inf
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - bits + 1, smallest)
    return float(abs(fraction(stored) - exact) / unit)


def assert_rounded(stored, exact, dtype):
    for value, want in zip(np.asarray(stored).reshape(-1), exact, strict=True):
        assert units_off(value, want, dtype) <= HALF[dtype] + SLACK, (float(value), float(want))


def statistics(b, channels):
    """Statistics of very different sizes, as stored."""
    size = 10.0 ** b.rng.integers(-2, 3, channels)
    scale, bias, mean, var = b.statistics(channels)
    stats = (scale, bias * size, mean * size, var * size)
    return [v.astype(b.np_dtype) for v in stats]


def constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def loaded(model, suffix="_folded"):
    return {k: v for k, v in constants(model).items() if k.endswith(suffix)}


def conv_and(b, *, up: bool, group=1):
    w = b.normal(M, C // group if group > 1 else C, 2, 1, name="w")
    bias = b.normal(M, name="b")
    epsilon = 1e-3
    if up:
        stats = statistics(b, M)
        y = b.bn(b.node("Conv", b.input(1, C, 3, 3), w, bias), M, stats=stats, epsilon=epsilon)
    else:
        stats = statistics(b, C)
        y = b.bn(b.input(1, C, 3, 3), C, stats=stats, epsilon=epsilon)
        y = b.node("Conv", y, w, bias)
    return b.output(y).model(), exact_affine(stats, epsilon)


@TYPES
@pytest.mark.parametrize("seed", range(4))
def test_conv_up(dtype, seed):
    b = Builder(17, dtype, seed)
    model, pairs = conv_and(b, up=True)
    before, folded = constants(model), fold_model(model)[0]
    after = loaded(folded)
    w = before["w"]
    assert_rounded(
        after["w_folded"],
        [fraction(w[i]) * pairs[i[0]][0] for i in np.ndindex(w.shape)],
        dtype,
    )
    exact = [s * fraction(v) + t for (s, t), v in zip(pairs, before["b"], strict=True)]
    assert_rounded(after["b_folded"], exact, dtype)


@TYPES
@pytest.mark.parametrize("seed", range(4))
def test_conv_down(dtype, seed):
    b = Builder(17, dtype, seed)
    model, pairs = conv_and(b, up=False)
    before, folded = constants(model), fold_model(model)[0]
    assert count(folded) == 0
    after = loaded(folded)
    w = before["w"]
    assert_rounded(
        after["w_folded"],
        [fraction(w[i]) * pairs[i[1]][0] for i in np.ndindex(w.shape)],
        dtype,
    )
    exact = [
        fraction(before["b"][m])
        + sum(fraction(w[i]) * pairs[i[1]][1] for i in np.ndindex(w.shape) if i[0] == m)
        for m in range(M)
    ]
    assert_rounded(after["b_folded"], exact, dtype)


@TYPES
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("up", [True, False])
def test_gemm(dtype, seed, up):
    b = Builder(17, dtype, seed)
    alpha, beta, epsilon = 0.75, -1.5, 1e-5
    w, c = b.normal(C, M, name="w"), b.normal(M, name="c")
    stats = statistics(b, M if up else C)
    pairs = exact_affine(stats, epsilon)
    x = b.input(2, C)
    if not up:
        x = b.bn(x, C, stats=stats, epsilon=epsilon)
    y = b.node("Gemm", x, w, c, alpha=alpha, beta=beta)
    b.output(b.bn(y, M, stats=stats, epsilon=epsilon) if up else y)
    model = b.model()
    before, after = constants(model), loaded(fold_model(model)[0])
    w, c = before["w"], before["c"]
    axis = 1 if up else 0
    exact = [fraction(w[i]) * pairs[i[axis]][0] for i in np.ndindex(w.shape)]
    assert_rounded(after["w_folded"], exact, dtype)
    exact = []
    for n in range(M):
        addend = fraction(beta) * fraction(c[n])
        if up:
            exact.append(pairs[n][0] * addend + pairs[n][1])
        else:
            total = sum(fraction(w[k, n]) * pairs[k][1] for k in range(C))
            exact.append(addend + fraction(alpha) * total)
    assert_rounded(after["c_folded"], exact, dtype)


@TYPES
@pytest.mark.parametrize("seed", range(3))
def test_several_folds_into_one_constant_are_rounded_once(dtype, seed):
    b = Builder(17, dtype, seed)
    w, bias = b.normal(M, C, 1, 1, name="w"), b.normal(M, name="b")
    first, second, third = statistics(b, C), statistics(b, M), statistics(b, M)
    y = b.bn(b.input(1, C, 3, 3), C, stats=first, epsilon=0.5)
    y = b.node("Conv", y, w, bias)
    y = b.bn(b.bn(y, M, stats=second, epsilon=0.5), M, stats=third, epsilon=0.5)
    model = b.output(y).model()
    before, folded = constants(model), fold_model(model)[0]
    assert count(folded) == 0
    w, after = before["w"], constants(folded)
    (new_w,) = [v for k, v in after.items() if k.startswith("w_folded")]
    (new_b,) = [v for k, v in after.items() if k.startswith("b_folded")]
    inner, middle, outer = (exact_affine(stats, 0.5) for stats in (first, second, third))
    exact_w, exact_b = [], []
    for m in range(M):
        (s2, t2), (s3, t3) = middle[m], outer[m]
        row = [fraction(w[m, c, 0, 0]) for c in range(C)]
        exact_w += [s3 * s2 * v * s for v, (s, _) in zip(row, inner, strict=True)]
        total = fraction(before["b"][m]) + sum(v * t for v, (_, t) in zip(row, inner, strict=True))
        exact_b.append(s3 * (s2 * total + t2) + t3)
    assert_rounded(new_w, exact_w, dtype)
    assert_rounded(new_b, exact_b, dtype)


@TYPES
def test_a_bias_of_cancelling_terms(dtype):
    # 512 products of one size, of both signs: what is left is a small part of each.
    b = Builder(17, dtype, 7)
    channels = 512
    w = b.rng.choice([-1.0, 1.0], (1, channels, 1, 1)) * b.rng.uniform(1, 2, (1, channels, 1, 1))
    stats = [v.astype(b.np_dtype) for v in b.statistics(channels)]
    y = b.bn(b.input(1, channels, 1, 1), channels, stats=stats, epsilon=1e-5)
    model = b.output(b.node("Conv", y, b.const(w, "w"), b.const(np.zeros(1), "b"))).model()
    w, after = constants(model)["w"], loaded(fold_model(model)[0])
    pairs = exact_affine(stats, 1e-5)
    exact = sum(fraction(w[0, c, 0, 0]) * pairs[c][1] for c in range(channels))
    assert_rounded(after["b_folded"], [exact], dtype)


def test_the_yardstick_measures():
    assert units_off(np.float32(1.0), Fraction(1), "float32") == 0
    assert units_off(np.nextafter(np.float32(1), np.float32(2)), Fraction(1), "float32") == 1
    assert units_off(np.float16(0.0), Fraction(1, 2**25), "float16") == 0.5
    assert units_off(1.0, Fraction(0), "float64") == math.inf

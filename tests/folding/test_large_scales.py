"""A scale that enlarges travels past what is added, and no digits are lost between two of them."""

import numpy as np
import pytest
from support.build import Builder
from support.folding import fold_model
from support.truth import evaluate

C = 4
LARGE = {"float16": 1e3, "float32": 1e7}


def enlarging(b, y, scale, channels=C):
    """A BatchNormalization of what is as small as its scale is large."""
    rng = b.rng
    scales = scale * rng.uniform(0.5, 2, channels) * rng.choice([-1, 1], channels)
    stats = scales, rng.normal(size=channels), np.zeros(channels), np.ones(channels)
    return b.bn(y, channels, stats=stats, epsilon=0.0)


def check(b, dtype, folded, **options):
    """The fold is off by a few roundings, whatever the scale was."""
    original = b.model()
    result, plan = fold_model(original, **options)
    assert len(plan.folded) == folded
    small = b.rng.normal(size=(2, C, 3, 3)) / LARGE[dtype]
    for x in small, np.zeros_like(small):
        feeds = {"x": x.astype(dtype)}
        (want,), (got,) = evaluate(original, feeds), evaluate(result, feeds)
        assert np.abs(want - got).max() <= 16 * np.finfo(dtype).eps * np.abs(want).max()
    assert fold_model(result, **options)[0] == result


def start(dtype):
    b = Builder(17, dtype)
    return b, b.input(2, C, 3, 3)


@pytest.mark.parametrize("leftover", ["keep", "affine", "normalize"])
@pytest.mark.parametrize("dtype", LARGE)
@pytest.mark.parametrize("shape", [(1,), (C, 1, 1), (1, C, 1, 1)], ids=str)
@pytest.mark.parametrize("op", ["Add", "Sub", "from", "Sum", "Mean"])
def test_past_a_constant(op, shape, dtype, leftover):
    b, x = start(dtype)
    y, k = enlarging(b, x, LARGE[dtype]), b.normal(*shape)
    match op:
        case "from":
            y = b.node("Sub", k, y)
        case "Sum" | "Mean":
            y = b.node(op, b.normal(*shape), y, k)
        case _:
            y = b.node(op, y, k)
    b.output(b.bn(y, C, stats=b.statistics(C, positive=True), epsilon=0.0))
    check(b, dtype, folded=1, leftover=leftover)


@pytest.mark.parametrize("dtype", LARGE)
def test_into_a_normalization_with_a_mean(dtype):
    b, x = start(dtype)
    scale, bias, mean, var = b.statistics(C, positive=True)
    y = enlarging(b, x, LARGE[dtype])
    b.output(b.bn(y, C, stats=(scale, bias, 100 * mean, var), epsilon=0.0))
    check(b, dtype, folded=1)


@pytest.mark.parametrize("dtype", LARGE)
def test_where_some_channels_enlarge_and_some_are_dead(dtype):
    b, x = start(dtype)
    scales = LARGE[dtype] * np.array([1, 0, -1, 1e-4])
    stats = scales, b.rng.normal(size=C), np.zeros(C), np.ones(C)
    y = b.node("Add", b.bn(x, C, stats=stats, epsilon=0.0), b.normal(C, 1, 1))
    b.output(b.bn(y, C, stats=b.statistics(C, positive=True), epsilon=0.0))
    check(b, dtype, folded=1)

"""What the check of one layer lets pass as rounding, and what not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from normswap.groupnorm.layer import Layer
from normswap.groupnorm.layercheck import check_layer
from normswap.groupnorm.reference import group_normalization

SHAPE = (1, 4, 150, 150)
EPSILON = 1e-3


def layer(data_type=TensorProto.FLOAT, groups=1):
    return Layer("bn", "x", "y", None, None, SHAPE[1], groups, EPSILON, SHAPE, data_type, 17)


def running_sum(values, lanes):
    """A kernel's sum: one after the other, in some lanes."""
    return values.reshape(-1, lanes).cumsum(axis=0)[-1].sum()


def computed(x, lanes, epsilon=EPSILON):
    """What a kernel makes of one group in the type of x."""
    flat = x.reshape(-1)
    mean = running_sum(flat, lanes) / x.dtype.type(flat.size)
    variance = running_sum(np.square(flat - mean), lanes) / x.dtype.type(flat.size)
    return ((x - mean) / np.sqrt(variance + x.dtype.type(epsilon))).astype(x.dtype)


def mostly_equal(dtype=np.float32, rest=0.25):
    """Activations as behind a Relu and a depthwise convolution: many of them are its bias."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random(SHAPE) < 0.9, 0.0123, rest * rng.normal(size=SHAPE))
    return x.astype(dtype)


@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
@pytest.mark.parametrize("rest", [0.25, 1.0, 30.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_of_equal_elements_are_off_one_way(lanes, rest, sign):
    x = sign * mostly_equal(rest=rest)
    assert check_layer(layer(), x, computed(x, lanes), None, None).ratio < 1


def test_such_sums_are_far_off():
    # Or the test above would say nothing.
    x = mostly_equal()
    truth = group_normalization(x, None, None, num_groups=1, epsilon=EPSILON)
    error = np.abs(computed(x, 1) - truth).max()
    random = (16 + np.sqrt(x.size)) * np.finfo(np.float32).eps / 2
    assert error > 1.5 * random * np.abs(truth).max()


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_wrong_epsilon_is_found_all_the_same(lanes):
    x = mostly_equal()
    assert check_layer(layer(), x, computed(x, lanes, epsilon=2e-3), None, None).ratio > 2


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_groups_of_a_few_elements(size):
    x = np.random.default_rng(1).normal(size=(2, 4, 1, size)).astype(np.float32)
    shape = x.shape
    small = Layer("bn", "x", "y", None, None, 4, 4, EPSILON, shape, TensorProto.FLOAT, 17)
    y = group_normalization(x, None, None, num_groups=4, epsilon=EPSILON).astype(np.float32)
    assert check_layer(small, x, y, None, None).ratio < 1
    if size > 1:
        assert check_layer(small, x, np.float32(1.001) * y, None, None).ratio > 1


def test_float64_is_held_to_float64():
    x = mostly_equal(np.float64)
    assert check_layer(layer(TensorProto.DOUBLE), x, computed(x, 1), None, None).ratio < 1
    rounded = computed(x.astype(np.float32), 1).astype(np.float64)
    assert check_layer(layer(TensorProto.DOUBLE), x, rounded, None, None).ratio > 100

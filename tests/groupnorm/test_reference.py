"""The float64 reference, against the test cases that onnx ships for its normalizations."""

from __future__ import annotations

import numpy as np
import pytest
from support.nodecases import node_cases

from normswap.groupnorm.reference import group_normalization, normalize

CASES = [
    (op, *case)
    for op in ("GroupNormalization", "InstanceNormalization", "LayerNormalization")
    for case in node_cases(op)
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[1])
def test_agrees_with_the_onnx_node_cases(case):
    op, _, attributes, (x, scale, bias), outputs = case
    epsilon = attributes.get("epsilon", 1e-5)
    if op == "LayerNormalization":
        axis = attributes.get("axis", -1) % x.ndim
        # A layer normalization is a group normalization of rows with one group.
        rows = x.reshape(int(np.prod(x.shape[:axis])), 1, -1)
        y = normalize(rows, num_groups=1, epsilon=epsilon).reshape(x.shape) * scale + bias
    else:
        groups = attributes.get("num_groups", x.shape[1])
        y = group_normalization(x, scale, bias, num_groups=groups, epsilon=epsilon)
    np.testing.assert_allclose(y, outputs[0], rtol=1e-4, atol=1e-5)


def test_there_are_node_cases():
    assert {case[0] for case in CASES} >= {"GroupNormalization", "LayerNormalization"}
    assert len(CASES) >= 10


def test_a_large_mean_costs_no_digits():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 8, 5, 5))
    shifted = group_normalization(x + 2.0**20, None, None, num_groups=2, epsilon=0.0)
    plain = group_normalization(x, None, None, num_groups=2, epsilon=0.0)
    assert np.abs(shifted - plain).max() < 1e-9


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_every_group_has_mean_zero_and_variance_one(groups):
    x = np.random.default_rng(1).normal(3, 5, size=(4, 6, 7, 3))
    y = normalize(x, num_groups=groups, epsilon=0.0).reshape(4, groups, -1)
    np.testing.assert_allclose(y.mean(axis=2), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=2), 1, rtol=1e-12)


def test_channels_of_a_group_are_neighbours():
    # Groups are (0, 1) and (2, 3); were they (0, 2) and (1, 3), nothing would be zero.
    x = np.array([[[5.0], [5.0], [-7.0], [-7.0]]])
    assert (normalize(x, num_groups=2, epsilon=1e-5) == 0).all()


@pytest.mark.parametrize("groups", [0, -1, 4, 7])
def test_refuses_groups_that_do_not_divide(groups):
    with pytest.raises(ValueError, match="can't be split"):
        normalize(np.zeros((1, 6, 2)), num_groups=groups, epsilon=1e-5)

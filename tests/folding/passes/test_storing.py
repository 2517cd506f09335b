"""What is kept for want of digits is tried again with constants as the file will have them."""

import numpy as np
import pytest
from support.build import Builder
from support.folding import assert_same_function, fold_model

C = 4


def near_the_last_digits(seed):
    """A BatchNormalization and arithmetic behind it, of which a Conv can just take in both.

    The weights have lost as many of their digits as is tolerated, or more, by how the first of the
    two happens to be rounded.
    """
    b = Builder(dtype="float16", seed=seed)
    x = b.node("Sigmoid", b.input(1, C, 3, 4))
    scale = b.rng.uniform(1e-4, 6e-4, C)
    y = b.bn(x, C, stats=(scale, b.rng.normal(size=C), np.zeros(C), np.ones(C)))
    b.output(b.conv(b.node("AveragePool", y, kernel_shape=[2, 2]), C, C, kernel=(1, 2)))
    z = b.node("Div", b.node("Add", y, b.normal(1)), b.const(b.rng.uniform(1, 2, (C, 1, 1))))
    return b.output(b.node("Conv", z, b.normal(2, C, 3, 1, scale=0.5), b.normal(2))).model()


@pytest.mark.parametrize("seed", [52, 405, 416, 445, 460, 556])
def test_what_fits_once_it_is_rounded_is_folded_at_once(seed):
    model = near_the_last_digits(seed)
    folded, plan = fold_model(model)
    assert not plan.kept
    assert_same_function(model, folded)
    again, second = fold_model(folded)
    assert not second.edits
    assert again == folded

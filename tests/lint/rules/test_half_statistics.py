import numpy as np
import pytest
from support.build import Builder
from support.linting import found


@pytest.mark.parametrize(("dtype", "nodes"), [("float16", ["half"]), ("float32", [])])
def test_variances_that_float16_can_not_hold(dtype, nodes):
    b = Builder(17, dtype)
    one = np.ones(3)
    stats = (one, one, one, [1.0, 3e-5, 1e-9])
    b.output(b.bn(b.input(1, 3, 5, 5), 3, name="half", stats=stats, epsilon=1e-3, out="y"))
    told = found(b.model(), "NS205")
    assert list(told) == nodes
    assert all("2 of 3 channels (1, 2)" in message for message in told.values())

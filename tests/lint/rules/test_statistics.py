import numpy as np
import pytest
from support.build import Builder
from support.linting import found


def test_not_a_number_and_not_a_variance():
    b = Builder(17)
    one = np.ones(3)
    x = b.bn(b.input(1, 3, 5, 5), 3, name="nan", stats=(one, [0, np.nan, 0], one, one))
    x = b.bn(x, 3, name="negative", stats=(one, one, one, [1, -1, 1]), epsilon=1e-5)
    x = b.bn(x, 3, name="zero", stats=(one, one, one, [0, 1, 1]), epsilon=0.0)
    b.output(b.bn(x, 3, name="right", stats=(one, one, one, [0, 1, 1]), epsilon=1e-5, out="y"))
    told = found(b.model(), "NS201")
    assert list(told) == ["nan", "negative", "zero"]
    assert "its B k_2 has 1 value that is not finite" in told["nan"]
    assert (
        told["negative"]
        == "its variance is invalid (negative, NaN or infinite) in 1 of 3 channels (1)"
    )


def test_scales_beside_the_largest():
    b = Builder(17)
    rest = (np.zeros(3), np.zeros(3), np.full(3, 2.0))
    x = b.bn(b.input(1, 3, 5, 5), 3, name="dead", stats=([1.0, 0.0, -1e-9], *rest))
    b.output(b.bn(x, 3, name="small", stats=([1e-9, 2e-9, 1e-9], *rest), out="y"))
    assert found(b.model(), "NS202") == {
        "dead": "its scale is zero or nearly zero in 2 of 3 channels (1, 2)"
    }


def test_variances_beside_epsilon():
    b = Builder(17)
    one = np.ones(3)
    small = (one, one, one, [1e-5, 1e-4, 1e-9])
    x = b.bn(b.input(1, 3, 5, 5), 3, name="small", stats=small, epsilon=1e-4)
    b.output(b.bn(x, 3, name="enough", stats=small, epsilon=0.0, out="y"))
    told = "its variance is not larger than epsilon in 3 of 3 channels (0, 1, 2)"
    assert found(b.model(), "NS203") == {"small": told}


def test_what_a_layer_begins_with():
    b = Builder(17)
    scale, zero, one = np.array([1.0, 2.0, 3.0]), np.zeros(3), np.ones(3)
    x = b.bn(b.input(1, 3, 5, 5), 3, name="new", stats=(scale, scale, zero, one))
    b.output(b.bn(x, 3, name="normalized", stats=(scale, scale, zero, scale), out="y"))
    assert list(found(b.model(), "NS204")) == ["new"]


@pytest.mark.parametrize(("dtype", "nodes"), [("float16", ["half"]), ("float32", [])])
def test_variances_that_float16_can_not_hold(dtype, nodes):
    b = Builder(17, dtype)
    one = np.ones(3)
    stats = (one, one, one, [1.0, 3e-5, 1e-9])
    b.output(b.bn(b.input(1, 3, 5, 5), 3, name="half", stats=stats, epsilon=1e-3, out="y"))
    told = found(b.model(), "NS205")
    assert list(told) == nodes
    assert all("2 of 3 channels (1, 2)" in message for message in told.values())

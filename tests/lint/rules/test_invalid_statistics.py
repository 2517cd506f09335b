import numpy as np
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

import numpy as np
from support.build import Builder
from support.linting import found


def test_variances_beside_epsilon():
    b = Builder(17)
    one = np.ones(3)
    small = (one, one, one, [1e-5, 1e-4, 1e-9])
    x = b.bn(b.input(1, 3, 5, 5), 3, name="small", stats=small, epsilon=1e-4)
    b.output(b.bn(x, 3, name="enough", stats=small, epsilon=0.0, out="y"))
    told = "its variance is not larger than epsilon in 3 of 3 channels (0, 1, 2)"
    assert found(b.model(), "NS203") == {"small": told}

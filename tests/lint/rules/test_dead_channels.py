import numpy as np
from support.build import Builder
from support.linting import found


def test_scales_beside_the_largest():
    b = Builder(17)
    rest = (np.zeros(3), np.zeros(3), np.full(3, 2.0))
    x = b.bn(b.input(1, 3, 5, 5), 3, name="dead", stats=([1.0, 0.0, -1e-9], *rest))
    b.output(b.bn(x, 3, name="small", stats=([1e-9, 2e-9, 1e-9], *rest), out="y"))
    assert found(b.model(), "NS202") == {
        "dead": "its scale is zero or nearly zero in 2 of 3 channels (1, 2)"
    }

import numpy as np
from support.build import Builder
from support.linting import found


def test_what_a_layer_begins_with():
    b = Builder(17)
    scale, zero, one = np.array([1.0, 2.0, 3.0]), np.zeros(3), np.ones(3)
    x = b.bn(b.input(1, 3, 5, 5), 3, name="new", stats=(scale, scale, zero, one))
    b.output(b.bn(x, 3, name="normalized", stats=(scale, scale, zero, scale), out="y"))
    assert list(found(b.model(), "NS204")) == ["new"]

import numpy as np
import pytest
from support.build import Builder
from support.linting import found


@pytest.mark.parametrize(
    ("options", "nodes"),
    [
        ({}, []),
        ({"groups": 2}, ["four"]),
        ({"groups": 4}, ["two"]),
        ({"group_size": 2}, ["two"]),
        ({"group_size": 3}, ["two", "four"]),
        ({"groups": "channels"}, ["two", "four"]),
    ],
)
def test_groups_that_were_agreed_on(options, nodes):
    b = Builder(21)
    scale, bias = b.const(np.ones(8)), b.const(np.zeros(8))
    x = b.input(1, 8, 5, 5)
    for groups, name in ((2, "two"), (4, "four")):
        x = b.node("GroupNormalization", x, scale, bias, num_groups=groups, name=name)
    b.output(b.node("Relu", x, out="y"), (1, 8, 5, 5))
    assert list(found(b.model(), "NS303", **options)) == nodes

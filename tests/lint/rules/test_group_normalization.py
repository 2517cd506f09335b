import numpy as np
import pytest
from support.build import Builder
from support.linting import found


@pytest.mark.parametrize("opset", [18, 21])
def test_one_scale_per_group(opset):
    b = Builder(21)
    scale, bias = b.const(np.ones(4)), b.const(np.zeros(4))
    x = b.node("GroupNormalization", b.input(1, 4, 5, 5), scale, bias, num_groups=2, name="gn")
    b.output(b.node("Relu", x, out="y"), (1, 4, 5, 5))
    model = b.model()
    model.opset_import[0].version = opset  # the checker refuses it, and files have it
    told = {"gn": f"it is of opset {opset}"} if opset < 21 else {}
    assert found(model, "NS301") == told
    assert list(found(model, "NS302")) == ([] if told else ["gn"])


def test_the_node_and_its_other_forms():
    b = Builder(21)
    scale, bias = b.const(np.ones(4)), b.const(np.zeros(4))
    x = b.node("GroupNormalization", b.input(1, 4, 5, 5), scale, bias, num_groups=2, name="gn")
    x = b.node("InstanceNormalization", x, scale, bias, name="instances")
    b.output(b.node("LayerNormalization", x, b.const(np.ones(5)), axis=-1, out="y"), (1, 4, 5, 5))
    assert found(b.model(), "NS302") == {"gn": "onnxruntime expands it"}


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

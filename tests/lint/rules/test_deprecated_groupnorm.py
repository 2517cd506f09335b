import numpy as np
import pytest
from support.build import Builder
from support.linting import found


@pytest.mark.parametrize("opset", [18, 21])
def test_by_opset(opset):
    b = Builder(21)
    scale, bias = b.const(np.ones(4)), b.const(np.zeros(4))
    x = b.node("GroupNormalization", b.input(1, 4, 5, 5), scale, bias, num_groups=2, name="gn")
    b.output(b.node("Relu", x, out="y"), (1, 4, 5, 5))
    model = b.model()
    model.opset_import[0].version = opset  # the checker refuses it, and files have it
    told = {"gn": f"it is of opset {opset}"} if opset < 21 else {}
    assert found(model, "NS301") == told
    assert list(found(model, "NS302")) == ([] if told else ["gn"])

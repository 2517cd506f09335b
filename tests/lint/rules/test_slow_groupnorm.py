import numpy as np
from support.build import Builder
from support.linting import found


def test_the_node_and_its_other_forms():
    b = Builder(21)
    scale, bias = b.const(np.ones(4)), b.const(np.zeros(4))
    x = b.node("GroupNormalization", b.input(1, 4, 5, 5), scale, bias, num_groups=2, name="gn")
    x = b.node("InstanceNormalization", x, scale, bias, name="instances")
    b.output(b.node("LayerNormalization", x, b.const(np.ones(5)), axis=-1, out="y"), (1, 4, 5, 5))
    assert found(b.model(), "NS302") == {"gn": "onnxruntime expands it"}

"""graphsurgeon's tensors that are made in one step: there is no telling them from its own."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from normswap.model import bare
from normswap.model.constants import ComputedTensor
from normswap.model.tensors import ArrayTensor

VALUES = ComputedTensor(ArrayTensor(np.arange(3, dtype=np.float32)))


@pytest.mark.parametrize(
    ("made", "own"),
    [
        (lambda: bare.constant("a", VALUES), lambda: gs.Constant("a", VALUES)),
        (lambda: bare.variable("a"), lambda: gs.Variable("a")),
    ],
)
def test_they_are_what_the_constructors_make(made, own):
    tensor, other = made(), made()
    assert type(tensor) is type(own())
    assert list(vars(tensor).items()) == list(vars(own()).items())
    node = gs.Node("Relu", inputs=[tensor], outputs=[other])
    assert (tensor.outputs, other.inputs) == ([node], [node])
    node.inputs.clear()
    assert not tensor.outputs
    other.inputs = []  # graphsurgeon keeps both sides in step
    assert not node.outputs

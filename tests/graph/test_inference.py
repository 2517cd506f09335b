"""Shape inference that does not end the process, and knows as much as ONNX's where that lives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.build import Builder

from normswap.graph.inference import infer_shapes

node = helper.make_node


def model_of(made, shape=(1, 3, 7, 7), **constants):
    constants = {
        "from": np.array([1]),
        "to": np.array([10]),
        "axis": np.array([3]),
        **constants,
    }
    graph = helper.make_graph(
        [made, node("Slice", ["p", "from", "to", "axis"], ["y"]), node("Relu", ["x"], ["z"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "yz"],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def sizes(model):
    infos = (*model.graph.value_info, *model.graph.output)
    return {
        info.name: tuple(d.dim_value or d.dim_param for d in info.type.tensor_type.shape.dim)
        for info in infos
        if info.type.tensor_type.HasField("shape")
    }


@pytest.mark.parametrize(
    ("made", "constants"),
    [
        (node("MaxPool", ["x"], ["p"], kernel_shape=[9, 9]), {}),
        (node("LpPool", ["x"], ["p"], kernel_shape=[9, 9]), {}),
        (node("Conv", ["x", "w"], ["p"]), {"w": np.zeros((3, 3, 9, 9), np.float32)}),
        (
            node("ConvTranspose", ["x", "w"], ["p"], pads=[9] * 4),
            {"w": np.zeros((3, 3, 2, 2), np.float32)},
        ),
        (node("Pad", ["x", "by"], ["p"]), {"by": np.array([0, 0, -5, -5] * 2)}),
        (node("Split", ["x", "by"], ["p", "q"], axis=3), {"by": np.array([-2, 9])}),
        (node("CenterCropPad", ["x", "by"], ["p"], axes=[3]), {"by": np.array([-4])}),
    ],
    ids=lambda given: getattr(given, "op_type", ""),
)
def test_less_than_nothing_ends_no_process(made, constants):
    model = model_of(made, **constants)
    inferred = infer_shapes(model)
    assert min(sizes(inferred)["p"]) < 0
    assert "y" not in sizes(inferred)
    assert sizes(inferred)["z"] == (1, 3, 7, 7)
    assert inferred.graph.node == model.graph.node


def test_a_size_of_less_than_nothing_that_is_declared_is_unknown():
    model = model_of(node("Neg", ["x"], ["p"]), shape=(1, 3, 7, -2))
    size = sizes(infer_shapes(model))["y"][3]
    assert not isinstance(size, int)


def test_what_onnx_knows_is_known_behind_windows_and_slices_in_turn():
    b = Builder(17)
    x = b.input("N", 4, 30, 30)
    for _ in range(4):
        x = b.conv(x, 4, 4)  # as much less as it can be
        axes = b.const(np.array([2, 3]))
        x = b.node("Slice", x, b.const(np.array([1, 0])), b.const(np.array([-1, 99])), axes)
    b.output(b.node("Relu", x, out="y"))
    model = b.model()
    known = sizes(onnx.shape_inference.infer_shapes(model, data_prop=True))
    assert known["y"][2:] == (14, 22)
    assert sizes(infer_shapes(model)) == known


def test_a_function_that_may_end_it_is_not_looked_into():
    body = [
        node("MaxPool", ["u"], ["m"], kernel_shape=[9, 9]),
        node("Slice", ["m", "from", "to", "axis"], ["v"]),
    ]
    imports = [helper.make_opsetid("", 18)]
    function = helper.make_function("own", "f", ["u", "from", "to", "axis"], ["v"], body, imports)
    model = model_of(node("f", ["x", "from", "to", "axis"], ["p"], domain="own"))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    inferred = infer_shapes(model)
    assert "p" not in sizes(inferred)
    assert sizes(inferred)["z"] == (1, 3, 7, 7)
    assert inferred.functions[0].node == function.node

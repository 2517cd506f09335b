"""A model of which large weights stay in its file."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from normswap.model.outlined import outlined

LARGE = np.arange(4096, dtype=np.float32).reshape(64, 64)


def tensor(field):
    made = numpy_helper.from_array(LARGE, "w")
    if field == "float_data":
        made.ClearField("raw_data")
        made.float_data.extend(LARGE.ravel().tolist())
    elif field == "int32_data":
        made = helper.make_tensor("w", onnx.TensorProto.INT32, [64, 64], range(4096))
    return made


def model(weight, **more):
    value = helper.make_tensor_value_info
    small = numpy_helper.from_array(np.float32([1, 2]), "small")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], **more)],
        "g",
        [value("x", 1, ["N", 64])],
        [value("y", 1, ["N", 64])],
        [small, weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("field", ["raw_data", "float_data"])
def test_a_large_weight_stays_in_the_file(tmp_path, field):
    path = tmp_path / "m.onnx"
    onnx.save(model(tensor(field)), path)
    read = outlined(path)
    small, weight = read.graph.initializer
    assert small == model(tensor(field)).graph.initializer[0]
    assert len(read.SerializeToString()) < 1000
    assert np.array_equal(numpy_helper.to_array(weight, str(tmp_path)), LARGE)


@pytest.mark.parametrize("where", ["int32_data", "attribute"])
def test_what_can_not_be_told_as_external_data_is_read(tmp_path, where):
    proto = model(tensor("int32_data")) if where == "int32_data" else model(tensor("raw_data"))
    if where == "attribute":
        proto.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor("raw_data")))
    onnx.save(proto, tmp_path / "m.onnx")
    assert outlined(tmp_path / "m.onnx") == proto


def test_external_data_stays_where_it_is(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(model(tensor("raw_data")), path, save_as_external_data=True, size_threshold=0)
    assert outlined(path) == onnx.load(path, load_external_data=False)

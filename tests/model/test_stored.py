"""Tensors of every type, in every way ONNX can store them, load as onnx itself reads them."""

import io

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from normswap.errors import ModelError
from normswap.model import TensorSource, load, source_of, wire
from normswap.model.stored import LazyTensor

TYPES = [kind for kind in TensorProto.DataType.values() if kind != 0]


def model_with(*tensors, sparse=()):
    names = [t.name for t in tensors] + [s.values.name for s in sparse]
    node = helper.make_node("F", names, ["y"], domain="test")
    graph = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("y")], tensors)
    graph.sparse_initializer.extend(sparse)
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("test", 1)]
    return helper.make_model(graph, opset_imports=imports).SerializeToString()


def loaded(data):
    node = load(data).graph.nodes[0]
    return [source_of(constant).load() for constant in node.inputs]


def small_values(data_type, shape):
    """Return values that every type has: 0 and 1, but 1 and 2 where there is no 0."""
    lowest = 1 if data_type == getattr(TensorProto, "FLOAT8E8M0", -1) else 0
    return np.random.default_rng(data_type).integers(lowest, lowest + 2, shape)


def tensor_of(data_type, values, *, raw):
    """Make a tensor of small non-negative integers; `raw` chooses the storage field."""
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    array = values.astype(dtype)
    if raw:
        return numpy_helper.from_array(array, "w")
    tensor = TensorProto(name="w", data_type=data_type, dims=values.shape)
    field = helper.tensor_dtype_to_field(data_type)
    flat = array.reshape(-1)
    if field in {"float_data", "double_data"} and flat.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    elif field == "int32_data" and flat.dtype.kind in "Vf":
        packed = np.frombuffer(numpy_helper.from_array(array).raw_data, np.uint8)
        wide = flat.dtype.itemsize == 2
        flat = packed.view(np.uint16) if wide else packed
        if "FLOAT6" in TensorProto.DataType.Name(data_type):  # one entry an element here
            flat = array.reshape(-1).view(np.uint8)
    getattr(tensor, field).extend(item.item() + 0 for item in flat)
    return tensor


@pytest.mark.parametrize("data_type", TYPES, ids=TensorProto.DataType.Name)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("threshold", [1, 10**6], ids=["detached", "inline"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 2)])
def test_every_type(monkeypatch, data_type, raw, threshold, shape):
    monkeypatch.setattr(wire, "PAYLOAD_THRESHOLD", threshold)
    values = small_values(data_type, shape)
    if data_type == TensorProto.STRING:
        tensor = numpy_helper.from_array(values.astype(str).astype(object), "w")
        tensor.dims[:] = shape
        expected = values.astype(str).astype(object)
    else:
        tensor = tensor_of(data_type, values, raw=raw)
        expected = numpy_helper.to_array(tensor)
        assert np.array_equal(expected.astype(np.complex128), values)
    (array,) = loaded(model_with(tensor))
    assert array.dtype == expected.dtype
    assert array.shape == shape
    assert np.array_equal(array, expected)
    if data_type != TensorProto.STRING:
        assert array.flags.writeable


def test_a_source_says_what_it_is_without_loading():
    weight = numpy_helper.from_array(np.ones((3, 4), ml_dtypes.bfloat16), "w")
    constant = load(model_with(weight)).graph.nodes[0].inputs[0]
    source = source_of(constant)
    assert isinstance(source, TensorSource)
    assert (source.data_type, source.shape) == (TensorProto.BFLOAT16, (3, 4))
    assert constant.dtype == ml_dtypes.bfloat16
    assert constant.shape == (3, 4)
    assert source.nbytes == 24
    assert "bfloat16" in repr(constant)


def test_each_load_is_fresh():
    constant = load(model_with(numpy_helper.from_array(np.ones(4, "f4"), "w"))).graph.nodes[0]
    source = source_of(constant.inputs[0])
    source.load()[:] = 0
    assert np.array_equal(source.load(), np.ones(4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data_type": 1, "dims": [3], "raw_data": bytes(8)}, "don't fit"),
        ({"data_type": 1, "dims": [3], "raw_data": bytes(9000)}, "9000 bytes are stored, but 12"),
        ({"data_type": 1, "dims": [3], "float_data": [1.0]}, "don't fit"),
        ({"data_type": 1, "dims": [-3], "float_data": [1.0]}, "invalid shape"),
        ({"data_type": 0, "dims": [1]}, "has no type"),
        ({"data_type": 99, "dims": [1]}, "is of type 99"),
        ({"data_type": 8, "dims": [1], "string_data": [b"\xff"]}, "don't fit"),
        ({"data_type": 1, "dims": [2**62, 2**62], "raw_data": b"x"}, "don't fit"),
        ({"data_type": 1, "dims": [1], "segment": TensorProto.Segment(begin=0)}, "don't fit"),
    ],
)
def test_values_that_do_not_fit_are_a_clear_error(fields, message):
    model = load(model_with(TensorProto(name="w", **fields)))
    with pytest.raises(ModelError, match=message):
        source_of(model.graph.nodes[0].inputs[0]).load()


def sparse_tensor(values, indices, dims):
    return onnx.SparseTensorProto(
        values=numpy_helper.from_array(values, "s"),
        indices=numpy_helper.from_array(indices),
        dims=dims,
    )


@pytest.mark.parametrize(
    "indices", [np.array([1, 5], np.int64), np.array([[0, 1], [1, 2]], np.int64)]
)
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int8])
def test_sparse_tensors_load_dense(indices, dtype):
    sparse = sparse_tensor(np.array([2, 3], dtype), indices, [2, 3])
    (array,) = loaded(model_with(sparse=[sparse]))
    assert array.dtype == dtype
    assert np.array_equal(array, np.array([[0, 2, 0], [0, 0, 3]], dtype))


@pytest.mark.parametrize("indices", [[1, 7], [[0, 1], [1, 3]], [[0, 1], [-5, 0]]])
def test_sparse_indices_outside_the_shape_are_a_clear_error(indices):
    sparse = sparse_tensor(np.ones(2, "f4"), np.array(indices, np.int64), [2, 3])
    with pytest.raises(ModelError, match="sparse tensor 's'"):
        loaded(model_with(sparse=[sparse]))


def test_the_base_class_has_no_values():
    with pytest.raises(NotImplementedError):
        LazyTensor(1, (2,)).load()


def test_graphsurgeon_can_read_values_too():
    model = load(io.BytesIO(model_with(numpy_helper.from_array(np.ones(4, "f4"), "w"))))
    assert np.array_equal(model.graph.nodes[0].inputs[0].values, np.ones(4))

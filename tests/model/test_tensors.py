import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from normswap.model.tensors import (
    ArrayTensor,
    TensorSource,
    bits_of,
    data_type_of,
    dtype_of,
    from_raw,
    nbytes_of,
    to_raw,
)

TYPES = [kind for kind in TensorProto.DataType.values() if kind not in {0, TensorProto.STRING}]


@pytest.mark.parametrize("data_type", TYPES, ids=TensorProto.DataType.Name)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5)])
def test_raw_bytes_are_what_onnx_writes(data_type, shape):
    dtype = dtype_of(data_type)
    rng = np.random.default_rng(data_type)
    lowest = 1 if dtype == ml_dtypes.float8_e8m0fnu else 0  # it has no zero
    values = rng.integers(lowest, lowest + 2, shape).astype(dtype)
    raw = to_raw(values)
    assert bytes(raw) == numpy_helper.from_array(values).raw_data
    assert len(bytes(raw)) == nbytes_of(dtype, shape)
    again = from_raw(np.frombuffer(raw, np.uint8).copy(), data_type, dtype, shape)
    assert again.dtype == dtype
    assert np.array_equal(again, values)
    assert data_type_of(dtype) == data_type


def test_raw_bytes_of_an_array_that_is_not_contiguous():
    values = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert bytes(to_raw(values)) == values.tobytes()


def test_raw_bytes_of_a_contiguous_array_are_not_copied():
    values = np.zeros(4, np.float32)
    raw = to_raw(values)
    values[0] = 1
    assert bytes(raw) == values.tobytes()


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        (np.float32, 32),
        (np.bool_, 8),
        (np.complex128, 128),
        (ml_dtypes.bfloat16, 16),
        (ml_dtypes.float8_e5m2, 8),
        (ml_dtypes.int4, 4),
        (ml_dtypes.float4_e2m1fn, 4),
    ],
)
def test_bits(dtype, bits):
    assert bits_of(np.dtype(dtype)) == bits


@pytest.mark.parametrize("data_type", [0, -1, 99])
def test_types_that_onnx_does_not_know(data_type):
    assert dtype_of(data_type) is None


@pytest.mark.parametrize("dtype", [object, "<U3", "S3"])
def test_strings(dtype):
    assert data_type_of(np.dtype(dtype)) == TensorProto.STRING


def test_an_array_as_a_source():
    array = np.ones((2, 3), ml_dtypes.bfloat16)
    source = ArrayTensor(array)
    assert isinstance(source, TensorSource)
    assert source.data_type == onnx.TensorProto.BFLOAT16
    assert source.shape == (2, 3)
    loaded = source.load()
    loaded[:] = 0
    assert np.array_equal(array, np.ones((2, 3)))

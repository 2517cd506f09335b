"""Tensor values that are read, or computed, only when they are needed.

Every constant of a loaded model is a :class:`TensorSource`: its type and shape are known at once,
its bytes stay in the file (inline in the ``.onnx`` or in external data) until :meth:`load` is
called, and are not kept afterwards. A folded weight is a source too, one that computes itself from
other sources when it is written; so a model of any size is rewritten in the memory of one layer.
"""

from __future__ import annotations

import functools
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable


@runtime_checkable
class TensorSource(Protocol):
    """A constant tensor whose values are produced on demand."""

    @property
    def data_type(self) -> int:
        """Element type, an ``onnx.TensorProto.DataType``."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that :meth:`load` returns."""
        ...

    def load(self) -> npt.NDArray[Any]:
        """Return a fresh array of the values; bfloat16 and float8 come as ``ml_dtypes``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ArrayTensor:
    """A tensor whose values are in memory already.

    Parameters
    ----------
    array : numpy.ndarray
        Not copied.
    """

    array: npt.NDArray[Any]

    @property
    def data_type(self) -> int:
        """Element type, an ``onnx.TensorProto.DataType``."""
        return data_type_of(self.array.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    def load(self) -> npt.NDArray[Any]:
        """Return a copy of the array."""
        return self.array.copy()


@functools.cache
def dtype_of(data_type: int) -> np.dtype[Any] | None:
    """Return the numpy type of an ``onnx.TensorProto.DataType``, None if onnx knows of none.

    Strings are objects.
    """
    try:
        dtype: np.dtype[Any] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type))
    except KeyError:
        return None
    return dtype


def data_type_of(dtype: np.dtype[Any]) -> int:
    """Return the ``onnx.TensorProto.DataType`` of a numpy type."""
    if dtype.kind in "OUST":
        return int(onnx.TensorProto.STRING)
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype.newbyteorder("=")))


def bits_of(dtype: np.dtype[Any]) -> int:
    """Return how many bits an element takes in ``raw_data``; int4 and its like are packed."""
    if dtype.kind == "V":  # the numpy types of ml_dtypes
        try:
            return int(ml_dtypes.finfo(dtype).bits)
        except ValueError:
            return int(ml_dtypes.iinfo(dtype).bits)
    return dtype.itemsize * 8


def nbytes_of(dtype: np.dtype[Any], shape: Iterable[int]) -> int:
    """Return the size of a tensor in ``raw_data`` or external data."""
    return (math.prod(shape) * bits_of(dtype) + 7) // 8


def to_raw(array: npt.NDArray[Any]) -> memoryview | bytes:
    """Return the bytes of an array as ``raw_data`` and external data have them.

    Row-major, little-endian, elements of fewer than 8 bits packed. No copy is made where the
    array's memory is that already.
    """
    if bits_of(array.dtype) < 8:
        return bytes(numpy_helper.from_array(array).raw_data)
    if sys.byteorder == "big" and array.dtype.itemsize > 1:
        array = array.view(f"u{array.dtype.itemsize}").byteswap()  # pragma: no cover
    flat: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memoryview(flat)


def from_raw(
    raw: npt.NDArray[np.uint8], data_type: int, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Return the array whose ``raw_data`` is `raw`, in the same memory where that is possible."""
    if dtype.itemsize == 1 and bits_of(dtype) < 8:
        proto = onnx.TensorProto(dims=shape, data_type=data_type, raw_data=raw.tobytes())
        return np.array(numpy_helper.to_array(proto))
    if sys.byteorder == "big" and dtype.itemsize > 1:
        raw = raw.view(f"u{dtype.itemsize}").byteswap().view(np.uint8)  # pragma: no cover
    return raw.view(dtype).reshape(shape)

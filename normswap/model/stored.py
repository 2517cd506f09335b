"""Constants of a loaded model: their type and shape at hand, their bytes still in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from normswap.errors import ModelError
from normswap.model.tensors import dtype_of, from_raw, nbytes_of
from normswap.model.wire import length_delimited

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from normswap.model.storage import Extent


# Packed little-endian floats are what raw_data would hold as well.
RAW_LIKE_FIELDS = frozenset(
    {
        onnx.TensorProto.RAW_DATA_FIELD_NUMBER,
        onnx.TensorProto.FLOAT_DATA_FIELD_NUMBER,
        onnx.TensorProto.DOUBLE_DATA_FIELD_NUMBER,
    }
)


Locate: TypeAlias = "Callable[[Any], tuple[int, Extent] | None]"
"""Says where the values of a ``TensorProto`` lie.

Returns the number of the ``TensorProto`` field they are encoded as and their extent; None where the
message holds them itself.
"""


class LazyTensor(LazyValues):  # type: ignore[misc]
    """Base of the values of all constants: a :class:`TensorSource` that graphsurgeon accepts.

    graphsurgeon asks a ``LazyValues`` for ``shape``, ``dtype`` and ``nbytes``, and calls ``load``
    when someone reads ``Constant.values``, which then stay in memory. normswap never does.

    Attributes
    ----------
    data_type : int
        An ``onnx.TensorProto.DataType``.
    shape : tuple of int
    dtype : numpy.dtype or int
        `data_type` itself if numpy has no such type.
    nbytes : int
        Size as ``raw_data``; 0 where that isn't known beforehand (strings).
    """

    def __init__(self, data_type: int, shape: tuple[int, ...]) -> None:
        # LazyValues.__init__ wants a TensorProto and fails on types that numpy doesn't have.
        self.data_type = data_type
        self.shape = shape
        dtype = dtype_of(data_type)
        self.dtype = data_type if dtype is None else dtype
        self.nbytes = 0 if dtype is None or dtype.kind == "O" else nbytes_of(dtype, shape)

    def load(self) -> npt.NDArray[Any]:
        """Return a fresh array of the values."""
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"


class StoredTensor(LazyTensor):
    """A tensor of the model that was loaded.

    Parameters
    ----------
    tensor : onnx.TensorProto
        As in the stripped model.
    locate : callable
        Of the model; see :data:`Locate`.
    """

    def __init__(self, tensor: Any, locate: Locate) -> None:
        super().__init__(tensor.data_type, tuple(tensor.dims))
        self.tensor = tensor
        self.locate = locate

    def load(self) -> npt.NDArray[Any]:
        """Read the values.

        Returns
        -------
        numpy.ndarray
            Fresh and writable.

        Raises
        ------
        ModelError
            The values don't fit the type and shape, or the file was changed meanwhile.
        """
        if not isinstance(self.dtype, np.dtype):
            known = onnx.TensorProto.DataType.values()
            what = "has no type" if self.data_type == 0 else f"is of type {self.data_type}"
            raise ModelError(
                f"Tensor {self.tensor.name!r} {what}, but the installed onnx "
                f"{onnx.__version__} knows only types 1 to {max(known)}."
            )
        if min(self.shape, default=0) < 0:
            raise ModelError(f"Tensor {self.tensor.name!r} has the invalid shape {self.shape}.")
        try:
            return self._read(self.dtype)
        except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
            raise ModelError(
                f"The values of tensor {self.tensor.name!r} don't fit its type {self.dtype} and "
                f"shape {self.shape}: {error}."
            ) from error

    def _read(self, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        located = self.locate(self.tensor)
        if located is None:
            raw = self.tensor.raw_data
            if len(raw) == self.nbytes > 0:  # what to_array does, without its questions
                values = np.frombuffer(bytearray(raw), np.uint8)
                return from_raw(values, self.data_type, dtype, self.shape)
            return np.array(numpy_helper.to_array(self.tensor))
        field, extent = located
        if field in RAW_LIKE_FIELDS:
            if extent.nbytes != self.nbytes:
                raise ValueError(f"{extent.nbytes} bytes are stored, but {self.nbytes} are needed")
            return from_raw(extent.read(), self.data_type, dtype, self.shape)
        head = length_delimited(field, extent.nbytes)
        tensor = onnx.TensorProto.FromString(head + extent.read().tobytes())
        tensor.data_type = self.data_type
        tensor.dims.extend(self.shape)
        return np.array(numpy_helper.to_array(tensor))


class SparseTensor(LazyTensor):
    """A sparse tensor of the model that was loaded.

    Parameters
    ----------
    tensor : onnx.SparseTensorProto
    locate : callable
        Of the model; see :data:`Locate`.
    """

    def __init__(self, tensor: Any, locate: Locate) -> None:
        super().__init__(tensor.values.data_type, tuple(tensor.dims))
        self.tensor = tensor
        self.locate = locate
        self._values = StoredTensor(tensor.values, locate)
        self._indices = StoredTensor(tensor.indices, locate)

    def load(self) -> npt.NDArray[Any]:
        """Return the dense array.

        Raises
        ------
        ModelError
            The values or indices can't be read, or the indices are outside the shape.
        """
        values = self._values.load()
        indices = self._indices.load()
        try:
            dense = np.zeros(self.shape, values.dtype)
            if indices.ndim == 2:  # (NNZ, rank), otherwise (NNZ,) in the flattened tensor
                indices = np.ravel_multi_index(tuple(indices.T), self.shape)
            np.put(dense, indices, values, mode="raise")
        except (ValueError, TypeError, IndexError, MemoryError) as error:
            raise ModelError(
                f"The sparse tensor {self.tensor.values.name!r} can't be read: {error}."
            ) from error
        return dense

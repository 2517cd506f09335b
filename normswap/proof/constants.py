"""The constants of a flat model: read when they are needed, told apart without being kept.

Two constants are the same if type, shape and bytes are. Those that lie in one place of one file
are so without being read. Of others a few bytes are looked at first, all of them (in blocks) only
where these are the same.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from normswap.errors import ModelError
from normswap.model.external import ExternalData, is_external
from normswap.model.sparse import dense
from normswap.model.storage import FileStorage
from normswap.model.tensors import dtype_of, from_raw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from normswap.proof.flat import Flat

Place = tuple[str, int, int]
"""A file, and where in it: offset and length."""

_GLANCE = 1 << 12  # bytes that are looked at first, of the head and of the tail
_BLOCK = 1 << 22  # bytes that are hashed at a time


class Constants:
    """The constants of one model.

    Parameters
    ----------
    flat : Flat
    name : str
        What to call the model in messages.
    """

    def __init__(self, flat: Flat, name: str = "the model") -> None:
        self._flat = flat
        where = None if flat.folder is None else Path(flat.folder) / "model"
        self._external = ExternalData(where, name)
        self._small: dict[int, np.ndarray] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._flat.tensors

    def load(self, number: int) -> np.ndarray:
        """Return a constant in the type that it is stored in; not to be written to.

        Raises
        ------
        ModelError
            If its external data can't be read.
        """
        found = self._small.get(number)
        if found is None:
            found = self._read(self._flat.tensors[number])
            if found.size <= _GLANCE:
                self._small[number] = found
        return found

    def shape(self, number: int) -> tuple[int, ...]:
        """Return the shape, without reading."""
        return tuple(self._flat.tensors[number].dims)

    def _read(self, tensor: Any) -> np.ndarray:
        if isinstance(tensor, onnx.SparseTensorProto):
            return dense(tensor)
        if is_external(tensor):
            extent = self._external.extent(tensor)
            dtype = dtype_of(tensor.data_type)
            if dtype is None:
                raise ModelError(
                    f"Tensor {tensor.name!r} has an element type that onnx does not know."
                )
            return from_raw(extent.read(), tensor.data_type, dtype, tuple(tensor.dims))
        return np.asarray(onnx.numpy_helper.to_array(tensor))

    def place(self, number: int) -> Place | None:
        """Return where an external constant lies; None for others."""
        tensor = self._flat.tensors[number]
        if isinstance(tensor, onnx.SparseTensorProto) or not is_external(tensor):
            return None
        extent = self._external.extent(tensor)
        if not isinstance(extent.storage, FileStorage):
            return None
        return str(extent.storage.path), extent.offset, extent.nbytes

    def glance(self, number: int) -> bytes:
        """Return a few bytes of a constant, by which most others can be told from it."""
        tensor = self._flat.tensors[number]
        if not isinstance(tensor, onnx.SparseTensorProto) and is_external(tensor):
            extent = self._external.extent(tensor)
            few = min(_GLANCE, extent.nbytes)
            tail = extent.offset + extent.nbytes - few
            head = extent.storage.read(extent.offset, few).tobytes()
            return head + extent.storage.read(tail, few).tobytes()
        return glance_of(_content(tensor))

    def digest(self, number: int) -> bytes:
        """Return a hash of a constant's bytes."""
        return digest_of(self._blocks(number))

    def _blocks(self, number: int) -> Iterator[bytes]:
        tensor = self._flat.tensors[number]
        if isinstance(tensor, onnx.SparseTensorProto) or not is_external(tensor):
            yield _content(tensor)
            return
        extent = self._external.extent(tensor)
        end = extent.offset + extent.nbytes
        for start in range(extent.offset, end, _BLOCK):
            yield extent.storage.read(start, min(_BLOCK, end - start)).tobytes()


def glance_of(content: bytes) -> bytes:
    """Return the first and the last of some bytes."""
    few = min(_GLANCE, len(content))
    return content[:few] + content[len(content) - few :]


def digest_of(blocks: Iterable[bytes]) -> bytes:
    """Return a hash of bytes that come in blocks."""
    made = hashlib.blake2b(digest_size=20)
    for block in blocks:
        made.update(block)
    return made.digest()


def kind_of(tensor: Any) -> tuple[int, tuple[int, ...]]:
    """Return element type and shape of a constant."""
    sparse = isinstance(tensor, onnx.SparseTensorProto)
    return (tensor.values.data_type if sparse else tensor.data_type), tuple(tensor.dims)


def content_of(array: np.ndarray) -> bytes:
    """Return the bytes of an array as a model would store it; of text, with the lengths."""
    if array.dtype.kind in "OUS":
        items = [str(item).encode(errors="surrogateescape") for item in array.ravel().tolist()]
        return b"".join(len(item).to_bytes(8, "little") + item for item in items)
    return np.ascontiguousarray(array).tobytes()


def _content(tensor: Any) -> bytes:
    if isinstance(tensor, onnx.SparseTensorProto):
        return content_of(dense(tensor))
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    return content_of(np.asarray(onnx.numpy_helper.to_array(tensor)))

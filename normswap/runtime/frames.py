"""Messages between a :class:`~normswap.runtime.session.Session` and its process.

A message is a JSON object and arrays: the length of the JSON in four bytes, the JSON, and the bytes
of the arrays that it describes.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from normswap.runtime.arrays import dtype_of, to_bits

if TYPE_CHECKING:
    from collections.abc import Mapping

_LENGTH = struct.Struct("<I")

Arrays = dict[str, np.ndarray]


def send(
    stream: BinaryIO, message: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write a message."""
    packed = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    described = [
        {"name": name, "dtype": array.dtype.name, "shape": np.shape((arrays or {})[name])}
        for name, array in packed.items()
    ]
    head = json.dumps({**message, "arrays": described}).encode()
    stream.write(_LENGTH.pack(len(head)) + head)
    stream.writelines(to_bits(array).data if array.size else b"" for array in packed.values())
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, Any], Arrays]:
    """Read a message.

    Raises
    ------
    EOFError
        The other side is gone.
    """
    (length,) = _LENGTH.unpack(_read(stream, _LENGTH.size))
    message: dict[str, Any] = json.loads(_read(stream, length))
    arrays: Arrays = {}
    for entry in message.pop("arrays"):
        dtype = dtype_of(entry["dtype"])
        count = int(np.prod(entry["shape"], dtype=np.int64))
        data = _read(stream, count * dtype.itemsize)
        arrays[entry["name"]] = np.frombuffer(data, dtype=dtype).reshape(entry["shape"])
    return message, arrays


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data

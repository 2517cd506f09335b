"""Messages between a process and its child: JSON, in which arrays may stand anywhere.

A message is the length of the JSON in eight bytes, the JSON, and the bytes of the arrays that it
describes, in their order. JSON has no objects whose keys are numbers and no arrays, so these are
told by objects with a single key, which marks them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.runtime.arrays import dtype_of

if TYPE_CHECKING:
    from io import BufferedIOBase

WARM = "warm"
"""Asks a child to import the runtime at once."""

_LENGTH = struct.Struct("<Q")
_ARRAY, _STRINGS, _MAP = "$array", "$strings", "$map"
_MARKS = frozenset({_ARRAY, _STRINGS, _MAP})


def send(stream: BufferedIOBase, message: Mapping[str, Any]) -> None:
    """Write a message.

    Parameters
    ----------
    stream : BufferedIOBase
    message : Mapping
        Of what JSON knows, and of values (`normswap.runtime.arrays`).
    """
    arrays: list[np.ndarray] = []
    head = json.dumps(_marked(message, arrays)).encode()
    stream.write(_LENGTH.pack(len(head)) + head)
    stream.writelines(map(_bytes_of, arrays))
    stream.flush()


def receive(stream: BufferedIOBase) -> dict[str, Any]:
    """Read a message. Its arrays belong to the caller, who may write to them.

    Raises
    ------
    EOFError
        The other side is gone.
    """
    (length,) = _LENGTH.unpack(_read(stream, _LENGTH.size))
    arrays: list[np.ndarray] = []

    def unmarked(entry: dict[str, Any]) -> Any:
        if _ARRAY in entry:
            name, shape = entry[_ARRAY]
            arrays.append(np.empty(shape, dtype_of(name)))
            return arrays[-1]
        if _STRINGS in entry:
            items, shape = entry[_STRINGS]
            array = np.empty(len(items), dtype=object)
            array[:] = items
            return array.reshape(shape)
        return dict(entry[_MAP]) if _MAP in entry else entry

    message: dict[str, Any] = json.loads(_read(stream, length), object_hook=unmarked)
    for array in arrays:
        left = _bytes_of(array)
        while left.nbytes:
            count = stream.readinto(left)
            if not count:
                raise EOFError
            left = left[count:]
    return message


def _marked(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return a value in terms of JSON, its arrays being described and added to a list."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind in "OUS":
            return {_STRINGS: [[str(s) for s in np.asarray(value).flat], value.shape]}
        arrays.append(np.ascontiguousarray(value))
        return {_ARRAY: [value.dtype.name, value.shape]}
    if isinstance(value, list | tuple):
        return [_marked(item, arrays) for item in value]
    if not isinstance(value, Mapping):
        return value
    keys = [key.item() if isinstance(key, np.generic) else key for key in value]
    items = [_marked(item, arrays) for item in value.values()]
    if all(isinstance(key, str) for key in keys) and _MARKS.isdisjoint(keys):
        return dict(zip(keys, items, strict=True))
    return {_MAP: list(zip(keys, items, strict=True))}


def _bytes_of(array: np.ndarray) -> memoryview:
    """Return the memory of a contiguous array; NumPy can't show that of types of ml_dtypes."""
    return array.reshape(-1).view(np.uint8).data


def _read(stream: BufferedIOBase, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data

"""Values between processes and in golden files: a description in JSON, the data in ``.npy``.

A value is a tensor (`numpy.ndarray`), a sequence (`list`), an absent optional (`None`) or a map
(`dict`). NumPy's own format knows neither bfloat16 nor float8, so a tensor of a type from
ml_dtypes travels as the unsigned integers of its bits; strings travel in the description.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Value = Any  # np.ndarray | list[Value] | dict[int | str, Value] | None
Feeds = dict[str, Value]

_UNSIGNED = {1: np.uint8, 2: np.uint16}


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype called `name`, the types of ml_dtypes included."""
    return np.dtype(getattr(ml_dtypes, name, name))


def is_foreign(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is from ml_dtypes: NumPy computes with it, and cannot save it."""
    return hasattr(ml_dtypes, dtype.name)


def to_bits(array: np.ndarray) -> np.ndarray:
    """Return `array`, or the bits of it where its dtype is one that NumPy cannot save."""
    if is_foreign(array.dtype):
        return array.view(_UNSIGNED[array.dtype.itemsize])
    return array


class Packer:
    """Writes values into a folder and describes them.

    Parameters
    ----------
    folder : Path
        Where the ``.npy`` files go.
    prefix : str
        What their names start with; one prefix a packer.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder = folder
        self._names: Iterator[str] = (f"{prefix}{number}.npy" for number in count())

    def pack(self, value: Value) -> dict[str, Any]:
        """Write `value` and return its description."""
        if value is None:
            return {"kind": "none"}
        if isinstance(value, list):
            return {"kind": "sequence", "items": [self.pack(item) for item in value]}
        if isinstance(value, dict):
            return {
                "kind": "map",
                "keys": [key.item() if isinstance(key, np.generic) else key for key in value],
                "items": [self.pack(np.asarray(item)) for item in value.values()],
            }
        array = np.asarray(value)
        if array.dtype.kind in "OUS":
            return {"kind": "strings", "shape": array.shape, "items": [str(s) for s in array.flat]}
        name = next(self._names)
        np.save(self._folder / name, to_bits(array), allow_pickle=False)
        return {"kind": "tensor", "file": name, "dtype": array.dtype.name}

    def pack_all(self, values: Feeds) -> dict[str, Any]:
        """Write several values by name."""
        return {name: self.pack(value) for name, value in values.items()}


def unpack(description: dict[str, Any], folder: Path) -> Value:
    """Return the value that `Packer.pack` described; the inverse of it."""
    kind = description["kind"]
    if kind == "none":
        return None
    if kind == "sequence":
        return [unpack(item, folder) for item in description["items"]]
    if kind == "map":
        items = (unpack(item, folder) for item in description["items"])
        return dict(zip(description["keys"], items, strict=True))
    if kind == "strings":
        array = np.empty(len(description["items"]), dtype=object)
        array[:] = description["items"]
        return array.reshape(description["shape"])
    array = np.load(folder / description["file"], allow_pickle=False)
    return array.view(dtype_of(description["dtype"]))


def unpack_all(descriptions: dict[str, Any], folder: Path) -> Feeds:
    """Return several values by name."""
    return {name: unpack(item, folder) for name, item in descriptions.items()}

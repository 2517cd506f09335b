"""Sets of values in ``.npz`` files, as a check saves them and as they are read back.

A sequence is saved element by element: ``name[0]``, ``name[1]``, ... A tensor of a type that NumPy
does not know is saved as the unsigned integers of its bits. Several sets are numbered:
``name.npz``, ``name.1.npz``, ``name.2.npz``, ...
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.inputs.arrayfiles import read_npz
from normswap.runtime.arrays import Feeds, to_bits

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

_ELEMENT = re.compile(r"(.*)\[(\d+)\]")


def read_values(path: Path) -> Feeds:
    """Return the values of an ``.npz``, by name; ``name[0]``, ``name[1]``, ... are a sequence.

    Raises
    ------
    DataError
        It can't be read; the message names the file.
    """
    values: Feeds = {}
    for name, array in read_npz(path).items():
        element = _ELEMENT.fullmatch(name)
        if element is None:
            values[name] = array
        else:
            values.setdefault(element[1], []).append(array)
    return values


def save_values(path: Path, values: Mapping[str, Any]) -> None:
    """Write values to an ``.npz`` without pickling."""
    flat: dict[str, np.ndarray] = {}
    for name, value in values.items():
        for leaf, array in leaves(name, value):
            flat[leaf] = array.astype(str) if array.dtype == object else to_bits(array)
    # The ** spelling would let a tensor called "file" collide with savez's own parameter.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in flat.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def save_sets(path: str | os.PathLike[str], sets: Sequence[Mapping[str, Any]]) -> tuple[Path, ...]:
    """Write sets of values to `path` and its continuations; return the files."""
    files = tuple(_continuation(Path(path), number) for number in range(len(sets)))
    for file, values in zip(files, sets, strict=True):
        save_values(file, values)
    return files


def numbered(path: Path) -> list[Path]:
    """Return `path` and its continuations that exist."""
    found = [path] if path.exists() else []
    while found and (following := _continuation(path, len(found))).exists():
        found.append(following)
    return found


def _continuation(path: Path, number: int) -> Path:
    return path if number == 0 else path.with_suffix(f".{number}{path.suffix}")


def leaves(name: str, value: Any) -> list[tuple[str, np.ndarray]]:
    """Return the tensors of a value: itself, or the elements of a sequence or map, by name."""
    if value is None:
        return []
    if isinstance(value, list):
        return [leaf for i, item in enumerate(value) for leaf in leaves(f"{name}[{i}]", item)]
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(f"{name}[{key!r}]", item)]
    return [(name, np.asarray(value))]

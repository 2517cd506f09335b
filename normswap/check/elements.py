"""The tensors that an output is compared by.

A sequence of maps, with which a classifier ends, is a table: a row a sample, a column a class. Its
numbers are compared as the tensor that it was made of would be, by one scale and one noise floor,
and not one by one; what the maps say besides that is their keys, which must be the same. So are
sequences of single numbers. Sequences of anything larger are compared element by element.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from normswap.inputs.archives import leaves

_NAMED = 4  # keys in a name


def tensors(name: str, value: Any) -> list[tuple[str, np.ndarray]]:
    """Return the tensors of an output, by name.

    Parameters
    ----------
    name : str
        Of the output. A table is called ``name[keys]``, so that tables of other keys are others.
    value : Value
        As in `normswap.runtime.arrays`.
    """
    if isinstance(value, dict):
        return _table(name, [value], whole=value)
    if not isinstance(value, list):
        return leaves(name, value)
    if value and all(isinstance(item, dict) for item in value):
        if all(item.keys() == value[0].keys() for item in value):
            return _table(name, value, whole=value)
        return [leaf for i, item in enumerate(value) for leaf in tensors(f"{name}[{i}]", item)]
    if len(value) > 1 and all(isinstance(item, np.ndarray) and item.size == 1 for item in value):
        first = value[0]
        if all((item.shape, item.dtype) == (first.shape, first.dtype) for item in value):
            return [(f"{name}[0..{len(value) - 1}]", np.stack(value))]
    return [leaf for i, item in enumerate(value) for leaf in tensors(f"{name}[{i}]", item)]


def _table(name: str, rows: list[dict[Any, Any]], *, whole: Any) -> list[tuple[str, np.ndarray]]:
    """Return maps of the same keys as one array of (maps, keys); of (keys,) for a single map."""
    keys = sorted(rows[0])
    items = [[np.asarray(row[key]) for key in keys] for row in rows]
    kinds = {(item.shape, item.dtype) for row in items for item in row}
    if len(kinds) != 1:
        return leaves(name, whole)
    array = np.array(items, dtype=items[0][0].dtype)
    return [(f"{name}[{_listed(keys)}]", array[0] if isinstance(whole, dict) else array)]


def _listed(keys: list[Any]) -> str:
    """Return the keys, or the first of them and what tells them from others."""
    texts = [repr(key) for key in keys]
    if len(texts) <= _NAMED:
        return ", ".join(texts)
    mark = zlib.crc32("\n".join(texts).encode())
    return f"{', '.join(texts[:2])}, ... {texts[-1]}: {len(texts)} keys, {mark:08x}"

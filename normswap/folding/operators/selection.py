"""Operators that pick elements along an axis: ``out[..., j, ...] = in[..., indices[j], ...]``.

Down, each picked element keeps its part of the affine. Up, each part goes back to where it was
picked, and elements that were not picked take the identity, so that whoever else reads them sees no
change; that fails where one element was picked twice with different parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.graph.affine import Affine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.dtypes import Wide

OUTSIDE = -1
"""The index of an element that is not picked but put in, such as padding."""


def picked(affine: Affine, rank: int, axis: int, indices: Sequence[int]) -> Affine:
    """Return what becomes of an affine of the input; what is put in has the identity."""
    where = np.asarray(indices, dtype=np.int64)
    if not affine.varies_along(axis) and not (where == OUTSIDE).any():
        return affine
    parts: list[Wide] = []
    for array, identity in zip(affine.at(rank), (1.0, 0.0), strict=True):
        one = array.shape[axis] == 1
        part = array.take(np.zeros_like(where) if one else np.maximum(where, 0), axis)
        part[_along(axis, where == OUTSIDE)] = identity
        parts.append(part)
    return Affine(*parts)


def put_back(
    affine: Affine, rank: int, axis: int, indices: Sequence[int], size: int
) -> Affine | None:
    """Return the affine of an input of ``size`` that makes this one of the output.

    Returns
    -------
    Affine or None
        None where an element that was picked twice would need two affines.
    """
    where = np.asarray(indices, dtype=np.int64)
    outer = where != OUTSIDE
    parts: list[Wide] = []
    for array, identity in zip(affine.at(rank), (1.0, 0.0), strict=True):
        shape = list(array.shape)
        full = np.broadcast_to(array, [*shape[:axis], len(where), *shape[axis + 1 :]])
        shape[axis] = size
        part = np.full(shape, identity, dtype=np.longdouble)
        part[_along(axis, where[outer])] = full[_along(axis, outer)]
        if not (part[_along(axis, where[outer])] == full[_along(axis, outer)]).all():
            return None
        parts.append(part)
    return Affine(*parts)


def _along(axis: int, index: np.ndarray) -> tuple[slice | np.ndarray, ...]:
    """Index one axis, all of the axes before it, and all after it."""
    return (*(slice(None),) * axis, index)

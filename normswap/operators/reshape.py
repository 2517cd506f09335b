"""Reshape and its kin: the same elements in the same order, under other axes.

The axes of input and output fall into groups of equal size, such as ``(N | C, H, W)`` and
``(N | C*H*W)`` for Flatten. Within a group along which the affine varies, the elements are written
out and folded up again; a group along which it does not vary costs nothing and may be symbolic.
So Flatten repeats each channel H*W times, and a Reshape to ``(N, C/r, r)`` splits them, as it must.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from normswap.affine import Affine
from normswap.answers import Answer, Down, Up
from normswap.graph import Node, Use
from normswap.operators.base import Answers, Operator
from normswap.reasons import Reason
from normswap.shapes import Dim

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.dtypes import Wide

LARGEST_GROUP = 1 << 24
"""Elements of a group that are written out at most."""

Shape = tuple[Dim, ...]


class Reshape(Operator):
    """Carries an affine where each element's place stays determined."""

    ops = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        value = node.inputs[0]
        part = relay(affine, node.out.shape, None if value is None else value.shape)
        if part is None:
            yield self.block(node, "mixes the axis with others", self._reason(node))
            return
        yield Answer(goals=(Up(Use(node, 0), part),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        value = node.inputs[0]
        if slot != 0 or value is None:
            yield self.block(node, "takes its shape from the tensor")
            return
        part = relay(affine, value.shape, node.out.shape)
        if part is None:
            yield self.block(node, "mixes the axis with others", self._reason(node))
            return
        yield Answer(goals=(Down(node.out, part),))

    @staticmethod
    def _reason(node: Node) -> Reason:
        value = node.inputs[0]
        known = node.out.shape is not None and value is not None and value.shape is not None
        return Reason.AXIS if known else Reason.SHAPE_UNKNOWN


def relay(affine: Affine, old: Shape | None, new: Shape | None) -> Affine | None:
    """Lay an affine of a tensor out over another shape of the same elements.

    Returns
    -------
    Affine or None
        None where the shapes do not tell which elements an affine's entries belong to.
    """
    if affine.ndim == 0:
        return affine
    if old is None or new is None or affine.ndim > len(old):
        return None
    arrays: list[Wide] = []
    for array in affine.at(len(old)):
        moved = _relay_array(array, old, new)
        if moved is None:
            return None
        arrays.append(moved)
    return Affine(*arrays)


def _relay_array(array: Wide, old: Shape, new: Shape) -> Wide | None:
    """Relay one array of ``len(old)`` axes, each of length 1 or that of the tensor's axis."""
    written = list(array.shape)  # with the axes of varying groups written out
    target: list[int] = []
    for old_axes, new_axes in _groups(old, new):
        if all(array.shape[axis] == 1 for axis in old_axes):
            target += [1] * len(new_axes)
            continue
        sizes = _static([old[axis] for axis in old_axes])
        if sizes is None or math.prod(sizes) > LARGEST_GROUP:
            return None
        targets = _solved([new[axis] for axis in new_axes], math.prod(sizes))
        if targets is None:
            return None
        target += targets
        for axis, size in zip(old_axes, sizes, strict=True):
            written[axis] = size
    laid = np.ascontiguousarray(np.broadcast_to(array, written)).reshape(target)
    for axis, size in enumerate(laid.shape):  # shorten the axes along which nothing varies
        if size > 1:
            first = laid.take([0], axis)
            if (laid == first).all():
                laid = first
    return laid


def _static(dims: Sequence[Dim]) -> list[int] | None:
    """Return the sizes if all are static."""
    sizes = [dim for dim in dims if isinstance(dim, int)]
    return sizes if len(sizes) == len(dims) else None


def _solved(dims: Sequence[Dim], total: int) -> list[int] | None:
    """Return the sizes of a group of axes; one that is not known follows from the total."""
    known = math.prod(dim for dim in dims if isinstance(dim, int))
    unknown = sum(not isinstance(dim, int) for dim in dims)
    if unknown > 1 or known == 0 or total % known or (unknown == 0 and known != total):
        return None
    return [dim if isinstance(dim, int) else total // known for dim in dims]


def _groups(old: Shape, new: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Match axes of two shapes of the same elements in groups of equal size, as small as possible.

    Symbolic sizes are equal if they have the same name. Axes are matched from the left as far as
    sizes are known, then from the right; what is between is one group.
    """
    cuts = _common_cuts(old, new)
    i, j = cuts[-1]
    tail = _common_cuts(old[i:][::-1], new[j:][::-1])
    cuts += [(len(old) - a, len(new) - b) for a, b in reversed(tail)]
    for (i, j), (k, m) in itertools.pairwise(cuts):
        if (i, j) != (k, m):
            yield list(range(i, k)), list(range(j, m))


Size = tuple[int, tuple[str, ...]]
"""A product of sizes: its static part, and the names of its symbolic factors, sorted."""


def _common_cuts(old: Shape, new: Shape) -> list[tuple[int, int]]:
    """Return after how many axes each the two shapes have as many elements, (0, 0) first."""
    where = {size: j for j, size in reversed(list(enumerate(_products(new))))}
    cuts: list[tuple[int, int]] = []
    seen: set[Size] = set()
    for i, size in enumerate(_products(old)):
        if size in where and size not in seen:
            seen.add(size)
            cuts.append((i, where[size]))
    return cuts


def _products(shape: Shape) -> Iterator[Size]:
    """Yield how many elements the first 0, 1, 2, ... axes have, as long as that is known."""
    static = 1
    names: tuple[str, ...] = ()
    yield static, names
    for dim in shape:
        if dim is None:
            return
        if isinstance(dim, int):
            static *= dim
        else:
            names = tuple(sorted((*names, dim)))
        yield static, names

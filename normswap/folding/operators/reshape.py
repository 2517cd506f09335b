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

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators.base import Operator
from normswap.graph.affine import Affine
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason
from normswap.graph.sizes import Dim

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.dtypes import Wide

LARGEST_WRITTEN = 1 << 24
"""Elements of an affine that are written out at most."""

Shape = tuple[Dim, ...]


class Reshape(Operator):
    """Carries an affine where each element's place stays determined."""

    ops = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        value = node.inputs[0]
        part = relay(affine, node.out.shape, None if value is None else value.shape)
        if isinstance(part, Reason):
            raise self.blocked(node, BLOCKED[part], part)
        return Answer(goals=(Up(Use(node, 0), part),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        value = node.inputs[0]
        if slot != 0 or value is None:
            what = "axes" if node.op in ("Squeeze", "Unsqueeze") else "shape"
            raise self.blocked(node, f"uses {node.operand(slot).name} as its {what}")
        part = relay(affine, value.shape, node.out.shape)
        if isinstance(part, Reason):
            raise self.blocked(node, BLOCKED[part], part)
        return Answer(goals=(Down(node.out, part),))


BLOCKED = {
    Reason.AXIS: "merges or splits the axis that is scaled",
    Reason.SHAPE_UNKNOWN: "merges or splits the axis that is scaled, and sizes are not known",
}


def relay(affine: Affine, old: Shape | None, new: Shape | None) -> Affine | Reason:
    """Lay an affine of a tensor out over another shape of the same elements.

    Returns
    -------
    Affine or Reason
        ``AXIS`` where an element of the new shape stands for several of the old one, which differ;
        ``SHAPE_UNKNOWN`` where the shapes do not tell which.
    """
    if affine.ndim == 0:
        return affine
    if old is None or new is None:
        return Reason.SHAPE_UNKNOWN
    arrays: list[Wide] = []
    scale, shift = affine.at(len(old))
    sizes = [max(pair) for pair in zip(scale.shape, shift.shape, strict=True)]
    # Where shape inference knows less, the affine still knows how many channels it has.
    old = tuple(size if size > 1 else dim for size, dim in zip(sizes, old, strict=True))
    for array in (scale, shift):
        moved = _relay_array(array, old, new)
        if isinstance(moved, Reason):
            return moved
        arrays.append(moved)
    return Affine(*arrays)


def _relay_array(array: Wide, old: Shape, new: Shape) -> Wide | Reason:
    """Relay one array of ``len(old)`` axes, each of length 1 or that of the tensor's axis."""
    groups = list(_groups(old, new))
    written = list(array.shape)
    for axes, _ in groups:
        varying = [axis for axis in axes if array.shape[axis] != 1]
        for axis in axes[axes.index(varying[0]) :] if varying else ():
            size = old[axis]
            if not isinstance(size, int):
                return Reason.SHAPE_UNKNOWN
            written[axis] = size
    lengths = [math.prod(written[axis] for axis in axes) for axes, _ in groups]
    if math.prod(lengths) > LARGEST_WRITTEN:
        return Reason.SHAPE_UNKNOWN
    # An axis for each group now, along which the values repeat with the period that its length is.
    flat = np.broadcast_to(array, written).reshape(lengths)
    target: list[int] = []
    for index, (old_axes, new_axes) in enumerate(groups):
        if flat.shape[index] == 1:
            target += [1] * len(new_axes)
            continue
        sizes = _inner_sizes([new[axis] for axis in new_axes], [old[axis] for axis in old_axes])
        grown = flat.size // flat.shape[index] * math.prod(sizes)
        if not sizes or grown > LARGEST_WRITTEN:
            return Reason.SHAPE_UNKNOWN
        repeated = _repeated(flat, index, math.prod(sizes))
        if repeated is None:
            return Reason.AXIS
        flat = repeated
        target += [1] * (len(new_axes) - len(sizes)) + sizes
    return flat.reshape(target)


def _repeated(array: Wide, axis: int, length: int) -> Wide | None:
    """Repeat an axis up to a length; None where the length is no multiple of the period."""
    period = array.shape[axis]
    common = math.gcd(period, length)
    if common != period and not (array.take(np.arange(period) % common, axis) == array).all():
        return None
    return array.take(np.arange(length) % common, axis)


def _inner_sizes(dims: Sequence[Dim], old: Sequence[Dim]) -> list[int]:
    """Return the sizes of the last axes of a group, as many as are known.

    One that is not known follows from the total, if that is known.
    """
    sizes = [dim for dim in old if isinstance(dim, int)]
    known = math.prod(dim for dim in dims if isinstance(dim, int))
    if len(sizes) == len(old) and sum(not isinstance(dim, int) for dim in dims) <= 1 and known:
        return [dim if isinstance(dim, int) else math.prod(sizes) // known for dim in dims]
    inner = itertools.takewhile(lambda dim: isinstance(dim, int), reversed(dims))
    return [dim for dim in inner if isinstance(dim, int)][::-1]


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

"""Operators that give elements other places: Transpose, Reshape and its like, DepthToSpace."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normswap.graph.reasons import Reason
from normswap.permuting.operators.at import X, Y
from normswap.semantics.families import BLOCKS, RESHAPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.graph.sizes import Dim
    from normswap.permuting.labels import Ids
    from normswap.permuting.operators.at import At


def _transpose(at: At) -> None:
    rank = at.rank
    order = [int(axis) for axis in at.attr("perm", range(rank)[::-1])]
    at.roles({X: [str(axis) for axis in range(rank)], Y: [str(axis) for axis in order]})


def _reshape(at: At) -> None:
    """Follow a run of axes that, in row-major order, becomes another run of as many elements.

    A channel that is a single axis of one of the two is, in the other, one too, or each element of
    it a number of elements at a fixed distance from each other.
    """
    if at.port not in (X, Y):
        raise at.blocked("uses the tensor as its shape")
    here, there = at.port, X if at.is_output else Y
    own, other = at.shape(here), at.shape(there)
    runs = _runs(own, other, at.axis)
    if runs is None:
        raise at.blocked("merges or splits axes of unknown size", Reason.SHAPE_UNKNOWN)
    mine, theirs = runs
    before, size, behind = _around(own, mine, at.axis)
    covering = [(axis, *_around(other, theirs, axis)) for axis in theirs]
    for axis, ahead, length, after in covering:
        if before % ahead == 0 and behind % after == 0 and length >= size:
            at.tie(there, axis, _spread(at.labels, before // ahead, behind // after))
            return
    parts = [
        (axis, ahead // before, after // behind)
        for axis, ahead, length, after in covering
        if length > 1 and ahead % before == 0 and after % behind == 0
    ]
    held = [part for part in parts if at.has(there, part[0])] or parts[:1]
    if not held:
        raise at.blocked(f"splits axis {at.axis}")
    for axis, ahead, after in held:
        at.axes.labels.tie(at.labels, _spread(at.get(there, axis), ahead, after))


def _spread(labels: Ids, outer: int, inner: int) -> Ids:
    return np.tile(np.repeat(labels, inner), outer)


def _around(shape: Sequence[Dim], run: range, axis: int) -> tuple[int, int, int]:
    """Return how many elements of a run are before an axis, in it and behind it."""
    sizes = [size if isinstance(size, int) else 0 for size in shape]
    return (
        math.prod(sizes[run.start : axis]),
        sizes[axis],
        math.prod(sizes[axis + 1 : run.stop]),
    )


def _runs(own: Sequence[Dim], other: Sequence[Dim], axis: int) -> tuple[range, range] | None:
    """Return the axes around one that become others, and these; None where sizes are open."""
    found = _from_front(own[::-1], other[::-1], len(own) - 1 - axis)
    if found is not None:
        (a, b), (c, d) = found
        return range(len(own) - b, len(own) - a), range(len(other) - d, len(other) - c)
    found = _from_front(own, other, axis)
    return None if found is None else (range(*found[0]), range(*found[1]))


def _from_front(
    own: Sequence[Dim], other: Sequence[Dim], axis: int
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    i = j = 0
    while i <= axis and i < len(own):
        start = i, j
        if j < len(other) and own[i] == other[j] and own[i] is not None:
            i, j = i + 1, j + 1
            if start[0] == axis and not isinstance(own[axis], int):
                return None
            if start[0] == axis:
                return (start[0], i), (start[1], j)
            continue
        one = two = 1
        while one != two or i == start[0] or j == start[1]:
            ahead = one <= two and i < len(own)
            size = own[i] if ahead else other[j] if j < len(other) else None
            if not isinstance(size, int):
                return None
            if ahead:
                one, i = one * size, i + 1
            else:
                two, j = two * size, j + 1
        if start[0] <= axis < i:
            return (start[0], i), (start[1], j)
    return None


def _depth(at: At) -> None:
    """DCR: the channels of each of the pixels one after another; CRD: the pixels of each channel.

    Source: ONNX operator DepthToSpace, opset 11; SpaceToDepth is the inverse of its DCR.
    """
    deep, wide = (X, Y) if at.node.op == "DepthToSpace" else (Y, X)
    if at.axis != 1:
        raise at.blocked(f"moves elements along axis {at.axis}")
    pixels = int(at.attr("blocksize", 1)) ** 2
    channels = at.get(wide, 1)
    is_inner = at.node.op == "DepthToSpace" and at.attr("mode", "DCR") == "CRD"
    at.tie(deep, 1, np.repeat(channels, pixels) if is_inner else np.tile(channels, pixels))


FOLLOW = {
    **dict.fromkeys(BLOCKS, _depth),
    **dict.fromkeys(RESHAPES, _reshape),
    "Transpose": _transpose,
}

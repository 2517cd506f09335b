"""Operators that put channels beside each other, or take some out."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from normswap.graph.evaluate import integers_of
from normswap.graph.reasons import Reason
from normswap.graph.sequences import parts_of
from normswap.permuting.operators.at import X, Y

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.permuting.labels import Ids
    from normswap.permuting.operators.at import At, Port


def _concat(at: At) -> None:
    axis = int(at.attr("axis", 1)) % at.rank
    inputs = [port for port in at.ports() if not port[0]]
    if at.axis != axis:
        _beside(at, (*inputs, Y))
        return
    _joined(at, Y, inputs, axis)


def _split(at: At) -> None:
    axis = int(at.attr("axis", 0)) % at.rank
    outputs: list[Port] = [(True, slot) for slot in range(len(at.node.outputs))]
    if at.axis != axis:
        _beside(at, (X, *outputs))
        return
    _joined(at, X, outputs, axis)


def _beside(at: At, ports: Sequence[Port]) -> None:
    axes = [str(axis) for axis in range(at.rank)]
    at.roles(dict.fromkeys(ports, axes))


def _joined(at: At, whole: Port, parts: Sequence[Port], axis: int) -> None:
    """Tie a tensor with others that stand one after another in it."""
    sizes = [at.size(part, axis) for part in parts]
    labels = at.get(whole, axis)
    if sum(sizes) != len(labels):
        raise at.blocked(
            f"has parts whose sizes do not add up to that of axis {axis}", Reason.MALFORMED
        )
    at.fence(labels, np.repeat(np.arange(len(sizes)), sizes))
    for part, end, size in zip(parts, accumulate(sizes), sizes, strict=True):
        at.tie(part, axis, labels[end - size : end])


def _sequence(at: At) -> None:
    """Follow a SplitToSequence, or a SequenceAt of one: what it makes are parts of what it reads.

    Those who take a part name it by a constant; else it is not known what they take.
    """
    split = at.node if at.node.op == "SplitToSequence" else at.node.operand(0).producer
    if split is None or split.op != "SplitToSequence" or split.domain or at.slot:
        raise at.blocked("reads from a sequence that no SplitToSequence makes")
    whole = split.operand(0)
    rank = whole.rank or 0
    axis = int(split.attr("axis", 0)) % max(rank, 1)
    parts = parts_of(split, whole.shape[axis]) if whole.shape else None
    if parts is None or split.out.is_output or split.out.captured:
        raise at.blocked("has parts of unknown size", Reason.SHAPE_UNKNOWN)
    labels = at.labels if at.axis != axis else at.axes.get(whole, axis)
    at.axes.hold(whole, at.axis, labels)
    if at.axis == axis:
        sizes = [len(part) for part in parts]
        at.fence(labels, np.repeat(np.arange(len(sizes)), sizes))
    for node, _ in split.out.readers.values():
        place = integers_of(node.input(1))
        if node.op != "SequenceAt" or node.domain or not place:
            raise at.blocked("makes a sequence whose parts are not selected by constants")
        own = labels[parts[place[0]]] if at.axis == axis else labels
        at.axes.hold(node.out, at.axis, own)


def _slice(at: At) -> None:
    if at.port not in (X, Y):
        raise at.blocked("uses the tensor as its starts, ends, axes or steps")
    if at.node.opset < 10:
        starts, ends = list(at.attr("starts", ())), list(at.attr("ends", ()))
        axes = list(at.attr("axes", range(len(starts))))
        steps = [1] * len(starts)
    else:
        starts, ends = at.integers(1), at.integers(2)
        axes = list(range(len(starts))) if at.node.input(3) is None else at.integers(3)
        steps = [1] * len(starts) if at.node.input(4) is None else at.integers(4)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if axis % at.rank == at.axis:
            size = at.size(X, at.axis)
            to_first = step < 0 and end < -size  # negative numbers count from the end otherwise
            cut = slice(start, None if to_first else end, step)
            places = np.array(range(size)[cut], np.int64)
            at.tie(Y, at.axis, _taken(at, at.axis, places))
            return
    at.tie(X, at.axis, at.labels)
    at.tie(Y, at.axis, at.labels)


def _gather(at: At) -> None:
    axis = int(at.attr("axis", 0)) % len(at.shape(X))
    picked = len(at.shape((False, 1)))
    if at.port not in (X, Y):
        raise at.blocked("uses the tensor as its indices")
    width = picked if at.is_output else 1  # axes that stand for the one
    if at.axis < axis:
        moved = at.axis
    elif at.axis >= axis + width:
        moved = at.axis - width + (1 if at.is_output else picked)
    elif picked > 1:
        raise at.blocked("selects channels by a table of indices")
    else:
        places = np.array(at.integers(1), np.int64) % at.size(X, axis)
        labels = _taken(at, axis, places)
        if picked:
            at.tie(Y, axis, labels)
        return
    at.tie(X if at.is_output else Y, moved, at.labels)


def _taken(at: At, axis: int, places: Ids) -> Ids:
    """Return the labels of some places of the input, which are told from the others."""
    labels = at.get(X, axis)
    parts = np.zeros(len(labels), np.int64)
    if len(places) > 1 and (np.diff(places) == 1).all():
        parts[places[0] :] = 1
        parts[places[-1] + 1 :] = 2
    else:  # which of several places of a label were meant would be lost
        parts[places] = 1
        block = at.blocked("selects some of several elements of a channel").block
        for ids in (labels, labels[places]):
            at.axes.labels.once(ids, block)
    at.fence(labels, parts)
    return labels[places]


def _expand(at: At) -> None:
    if at.port not in (X, Y):
        raise at.blocked("uses the tensor as its shape")
    behind = at.rank - at.axis
    for port in (X, Y):
        shape = at.shape(port)
        axis = len(shape) - behind
        if axis >= 0 and shape[axis] != 1:
            at.tie(port, axis, at.labels)


def _tile(at: At) -> None:
    if at.port not in (X, Y):
        raise at.blocked("uses the tensor as its repeats")
    repeats = at.integers(1)[at.axis]
    at.tie(Y, at.axis, np.tile(at.get(X, at.axis), repeats))


FOLLOW = {
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "SequenceAt": _sequence,
    "Slice": _slice,
    "Split": _split,
    "SplitToSequence": _sequence,
    "Tile": _tile,
}

"""Forms of operators that join, divide, move or average what they read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from normswap.proof.forms.known import plain
from normswap.proof.maps import Map, NoMapError, joined

if TYPE_CHECKING:
    from normswap.proof.flat import FlatNode
    from normswap.proof.forms.known import Known


def _concat(known: Known, node: FlatNode) -> list[Map]:
    rank = known.rank(node.outputs[0])
    axis = int(node.attributes.get("axis", 1)) % rank
    if any(number not in known.maps for number in node.inputs):
        raise NoMapError("it joins a constant")
    return [joined([known.maps[n].along(axis, known.length(n, axis)) for n in node.inputs])]


def _split(known: Known, node: FlatNode) -> list[Map]:
    axis = int(node.attributes.get("axis", 0)) % known.rank(node.inputs[0])
    made = known.map(node).along(axis, known.length(node.inputs[0], axis))
    found, low = [], 0
    for number in node.outputs:
        high = low + known.length(number, axis)
        found.append(made.part(low, high))
        low = high
    return found


def _slice(known: Known, node: FlatNode) -> list[Map]:
    """Slice of neighbouring channels."""
    values = [known.vector(node, slot) for slot in range(1, 5)]
    starts, _, axes, steps = values
    if starts is None or axes is None or starts.size != 1 or axes.size != 1:
        raise NoMapError("it slices several axes")
    if steps is not None and int(steps.reshape(-1)[0]) != 1:
        raise NoMapError("it slices with a step")
    axis = int(axes.reshape(-1)[0]) % known.rank(node.inputs[0])
    count = known.length(node.inputs[0], axis)
    low = int(starts.reshape(-1)[0])
    low = min(max(low + count if low < 0 else low, 0), count)
    made = known.map(node).along(axis, count)
    return [made.part(low, low + known.length(node.outputs[0], axis))]


def _reshaped(known: Known, node: FlatNode) -> list[Map]:
    """Reshape, Flatten, Squeeze and Unsqueeze, which keep the order of elements."""
    made = known.map(node)
    before, after = known.shapes(node.inputs[0]), known.shapes(node.outputs[0])
    if before == after:
        return [made]
    axis = None
    if made.axis is not None:
        places = {_place(b, a, made.axis) for b, a in zip(before, after, strict=True)}
        if len(places) != 1 or None in places:
            raise NoMapError("it divides channels")
        axis = places.pop()
    trail = made.trail
    if trail and trail[-1][0] == "Reshape":  # one after another is one
        before, trail = trail[-1][1], trail[:-1]
    step = () if before == after else (("Reshape", before, after),)
    return [replace(made, axis=axis, trail=trail + step)]


def _place(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """Return which axis is left of one by a new shape."""
    lead = int(np.prod(before[:axis], dtype=np.int64))
    for place, size in enumerate(after):
        if size == before[axis] and int(np.prod(after[:place], dtype=np.int64)) == lead:
            return place
    return None


def _turned(known: Known, node: FlatNode) -> list[Map]:
    """Transpose."""
    made = known.map(node)
    rank = known.rank(node.inputs[0])
    order = tuple(node.attributes.get("perm") or range(rank)[::-1])
    axis = None if made.axis is None else order.index(made.axis)
    trail = made.trail
    if trail and trail[-1][0] == "Transpose":  # one after another is one
        order, trail = tuple(trail[-1][1][i] for i in order), trail[:-1]
    step = () if order == tuple(range(rank)) else (("Transpose", order),)
    return [replace(made, axis=axis, trail=trail + step)]


def _averaged(known: Known, node: FlatNode) -> list[Map]:
    """AveragePool and GlobalAveragePool, of each channel alone."""
    made = known.map(node)
    if made.axis not in {None, 1}:
        raise NoMapError("it averages over channels")
    given = node.attributes
    pads = any(given.get("pads") or ()) or given.get("auto_pad", "NOTSET") not in {
        "NOTSET",
        "VALID",
    }
    if np.any(made.bias != 0) and (pads or given.get("ceil_mode", 0)):
        raise NoMapError("what it pads is shifted before")
    what = tuple(sorted((name, plain(value)) for name, value in given.items()))
    return [replace(made, trail=(*made.trail, (node.op, what, node.opset)))]


def _meaned(known: Known, node: FlatNode) -> list[Map]:
    """ReduceMean over axes that are none of channels."""
    made = known.map(node)
    rank = known.rank(node.inputs[0])
    given = known.vector(node, 1)
    axes = node.attributes.get("axes") if given is None else given.reshape(-1).tolist()
    if not axes:
        raise NoMapError("it averages over all axes, or none")
    over = sorted(int(axis) % rank for axis in axes)
    axis = made.axis
    if axis in over:
        raise NoMapError("it averages over channels")
    keeps = bool(node.attributes.get("keepdims", 1))
    if axis is not None and not keeps:
        axis -= sum(other < axis for other in over)
    step = ("ReduceMean", tuple(over), keeps)
    return [replace(made, axis=axis, trail=(*made.trail, step))]


RULES = {
    "AveragePool": _averaged,
    "Concat": _concat,
    "Flatten": _reshaped,
    "GlobalAveragePool": _averaged,
    "ReduceMean": _meaned,
    "Reshape": _reshaped,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshaped,
    "Transpose": _turned,
    "Unsqueeze": _reshaped,
}

"""What is different in nodes that are the same, and in the constants that they read."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import is_floating
from normswap.proof.flat import NONE, OWN
from normswap.proof.numbering import attributes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.diff.pairs import Pairs
    from normswap.proof.flat import FlatNode
    from normswap.proof.numbering import Side


FEW = 8
"""Elements of an array that are told one by one."""


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """An attribute that says something else; empty where it is left out."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node that is not quite the same.

    Attributes
    ----------
    before, after : str
        What it is called: its operator, and its name or that of its output.
    inputs : tuple of str
        What it reads now, a sentence each; constants of other values are told by themselves.
    """

    before: str
    after: str
    attributes: tuple[AttributeChange, ...] = ()
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConstantChange:
    """A constant of other values, in the same place.

    Attributes
    ----------
    before, after : str
        Its names.
    read_by : str
        The node, as it is called now.
    was, now : str
        Types and shapes.
    elements, changed : int
        How many there are, and how many are others; of another shape all.
    max_change, largest : float
        The largest difference, and the largest value there was; NaN where they can't be told.
    """

    before: str
    after: str
    read_by: str
    was: str
    now: str
    elements: int
    changed: int
    max_change: float
    largest: float


def kind_of(array: np.ndarray) -> str:
    """Return the type and shape of an array, as in ``float32[3,4]``."""
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"


def title(node: FlatNode) -> str:
    """Return what to call a node: the operator that the file has, and its name or its output's."""
    if node.domain != OWN:
        return node.title
    return node.title.replace(node.op, node.proto.op_type, 1)


def node_changes(a: Side, b: Side, pairs: Pairs) -> Iterator[NodeChange]:
    """Yield what is different in nodes that have a partner, in the order of `b`."""
    for node in b.flat.nodes:
        partner = pairs.nodes.get(node.index)
        if partner is None or node.index in pairs.same:
            continue
        old = a.flat.nodes[partner]
        change = NodeChange(
            title(old),
            title(node),
            tuple(_attribute_changes(a, b, old, node)),
            tuple(_input_changes(a, b, old, node, pairs)),
        )
        if change.attributes or change.inputs:
            yield change


def _attribute_changes(a: Side, b: Side, old: FlatNode, new: FlatNode) -> Iterator[AttributeChange]:
    """Yield attributes that say something else; what says what its absence does says nothing."""
    before: dict[str, Any] = dict(attributes_of(old, a))
    after: dict[str, Any] = dict(attributes_of(new, b))
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            was, now = (_told(node.attributes.get(name)) for node in (old, new))
            yield AttributeChange(name, was, now)


def _told(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, np.ndarray):
        if value.size <= FEW:
            return str(value.tolist())
        return f"{kind_of(value)} of SHA-256 {sha256(value.tobytes()).hexdigest()[:8]}"
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_told, value))}]"
    return str(value)


def _input_changes(a: Side, b: Side, old: FlatNode, new: FlatNode, pairs: Pairs) -> Iterator[str]:
    """Yield what is read now; not what nodes that are gone or new in between explain."""
    for slot in range(max(len(old.inputs), len(new.inputs))):
        before = old.inputs[slot] if slot < len(old.inputs) else NONE
        after = new.inputs[slot] if slot < len(new.inputs) else NONE
        if before == after == NONE:
            continue
        if after == NONE:
            yield f"input {slot}, {a.flat.names[before]}, was removed"
        elif before == NONE:
            yield f"input {slot} is now {b.flat.names[after]}, and was not set"
        elif _are_constants(a, before, b, after):
            continue
        elif not pairs.are_one(before, after):
            yield f"input {slot} is now {b.flat.names[after]}, and was {a.flat.names[before]}"


def _are_constants(a: Side, before: int, b: Side, after: int) -> bool:
    return before in a.constants and after in b.constants


def constant_changes(a: Side, b: Side, pairs: Pairs) -> Iterator[ConstantChange]:
    """Yield constants of other values that the same nodes read in the same places, each once."""
    seen: set[tuple[int, int]] = set()
    for node in b.flat.nodes:
        partner = pairs.nodes.get(node.index)
        if partner is None or node.index in pairs.same:
            continue
        for before, after in zip(a.flat.nodes[partner].inputs, node.inputs, strict=False):
            if NONE in {before, after} or not _are_constants(a, before, b, after):
                continue
            if a.classes[before] == b.classes[after] or (before, after) in seen:
                continue
            seen.add((before, after))
            yield _constant_change(a, b, before, after, title(node))


def _constant_change(a: Side, b: Side, before: int, after: int, reader: str) -> ConstantChange:
    old, new = a.constants.load(before), b.constants.load(after)
    was, now = kind_of(old), kind_of(new)
    changed, most, largest = new.size, np.nan, np.nan
    if old.shape == new.shape and _is_number(old) and _is_number(new):
        with np.errstate(invalid="ignore", over="ignore"):
            x, y = old.astype(np.float64), new.astype(np.float64)
            differs = ~((x == y) | (np.isnan(x) & np.isnan(y)))
            distance = np.abs(y - x)[differs]
        changed = int(np.count_nonzero(differs))
        most = float(distance.max()) if distance.size else 0.0
        largest = float(np.abs(x).max()) if x.size else 0.0
    elif old.shape == new.shape and old.dtype == new.dtype:
        changed = int(np.count_nonzero(old != new))
    return ConstantChange(
        a.flat.names[before],
        b.flat.names[after],
        reader,
        was,
        now,
        int(new.size),
        changed,
        float(most),
        float(largest),
    )


def _is_number(array: np.ndarray) -> bool:
    return array.dtype.kind in "biu" or is_floating(array.dtype)

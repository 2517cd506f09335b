"""The axes of tensors that have labels."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.graph.reasons import Blocked, Reason
from normswap.permuting.labels import Labels

if TYPE_CHECKING:
    from normswap.graph.network import Use, Value
    from normswap.permuting.labels import Ids

Key = tuple[object, int]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """An axis that has labels.

    Attributes
    ----------
    value : Value
    axis : int
    labels : (C,) or (G, C) ndarray
        The second for the second axis of the weight of a grouped convolution: for each group.
    use : Use or None
        Of a constant that belongs to a node: where that reads it.
    """

    value: Value
    axis: int
    labels: Ids
    use: Use | None = None


class Axes:
    """Axes with their labels.

    Attributes
    ----------
    labels : Labels
    held : dict of Key to Held
    new : deque of Held
        Those that nobody has looked at yet.
    """

    def __init__(self) -> None:
        self.labels = Labels()
        self.held: dict[Key, Held] = {}
        self.new: deque[Held] = deque()

    def get(self, value: Value, axis: int, use: Use | None = None) -> Ids:
        """Return the labels of an axis, new ones where it has none.

        Raises
        ------
        Blocked
            If its size is not known.
        """
        key = _key(value, axis, use)
        if key not in self.held:
            self.hold(value, axis, self.labels.fresh(size_of(value, axis)), use)
        held = self.held.get(key)
        return self.labels.fresh(1) if held is None else held.labels

    def has(self, value: Value, axis: int, use: Use | None = None) -> bool:
        """Whether an axis has labels."""
        return _key(value, axis, use) in self.held

    def hold(self, value: Value, axis: int, labels: Ids, use: Use | None = None) -> None:
        """Give labels to an axis, or tie those that it has with them.

        Raises
        ------
        Blocked
            If it can't have them.
        """
        if size_of(value, axis) != labels.shape[-1]:
            detail = f"axis {axis} of {value.name} does not have {labels.shape[-1]} channels"
            raise Blocked(Reason.MALFORMED, value.name, detail)
        if labels.shape[-1] == 1:
            return  # there is nothing to exchange
        if labels.ndim > 1 and not is_leaf(value):
            detail = f"{value.name}, the weight of a grouped convolution, is computed by a node"
            raise Blocked(Reason.NOT_CONSTANT, value.name, detail)
        key = _key(value, axis, use)
        held = self.held.get(key)
        if held is None:
            self.held[key] = Held(value, axis, labels, use if key[0] != id(value) else None)
            self.new.append(self.held[key])
        elif held.labels.shape != labels.shape:
            detail = f"{value.name} is the weight of convolutions with different numbers of groups"
            raise Blocked(Reason.AXIS, value.name, detail)
        else:
            self.labels.tie(held.labels, labels)


def size_of(value: Value, axis: int) -> int:
    """Return how many places an axis has.

    Raises
    ------
    Blocked
        If that is not known.
    """
    size = None if value.shape is None else value.shape[axis]
    if not isinstance(size, int):
        detail = f"the size of axis {axis} of {value.name} is not known"
        raise Blocked(Reason.SHAPE_UNKNOWN, value.name, detail)
    return size


def is_leaf(value: Value) -> bool:
    """Whether a tensor is a constant of the model, and not computed from any."""
    if value.producer is None:
        return value.source is not None
    return value.producer.op == "Constant" and not value.producer.domain


def _key(value: Value, axis: int, use: Use | None) -> Key:
    if use is not None and is_leaf(value) and math.prod(_sizes(value)) == size_of(value, axis):
        return (use.node.key, use.slot), axis
    return id(value), axis


def _sizes(value: Value) -> list[int]:
    return [size_of(value, axis) for axis in range(value.rank or 0)]

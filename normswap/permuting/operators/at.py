"""Where an operator is asked: an axis of one of its inputs or outputs, which has labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_graphsurgeon as gs

from normswap.graph.evaluate import constant_source, integers_of
from normswap.graph.network import Use
from normswap.graph.reasons import Blocked, Reason, unless_blocked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from normswap.graph.network import Node, Value
    from normswap.graph.partial import Partial
    from normswap.graph.sizes import Dim
    from normswap.permuting.axes import Axes
    from normswap.permuting.labels import Ids

Port = tuple[bool, int]
"""Whether it is an output, and which."""

X: Port = (False, 0)
Y: Port = (True, 0)


@dataclass(frozen=True, slots=True)
class At:
    """An axis of what a node reads or makes.

    Attributes
    ----------
    axes : Axes
    node : Node
    is_output : bool
    slot : int
    axis : int
    labels : (C,) ndarray
        (G, C) at the second axis of the weight of a convolution of G groups.
    """

    axes: Axes
    node: Node
    is_output: bool
    slot: int
    axis: int
    labels: Ids

    @property
    def port(self) -> Port:
        """Which of the inputs or outputs it is."""
        return self.is_output, self.slot

    @property
    def rank(self) -> int:
        """How many axes the tensor has."""
        return len(self.shape(self.port))

    def ports(self) -> Iterator[Port]:
        """Yield what the node reads and makes."""
        for is_output, values in ((False, self.node.inputs), (True, self.node.outputs)):
            for slot, value in enumerate(values):
                if value is not None:
                    yield is_output, slot

    def value(self, port: Port) -> Value | None:
        """Return a tensor; None where it is left out."""
        is_output, slot = port
        return self.node.output(slot) if is_output else self.node.input(slot)

    def shape(self, port: Port) -> tuple[Dim, ...]:
        """Return the shape of a tensor that is there.

        Raises
        ------
        Blocked
            If even its rank is not known.
        """
        value = self.value(port)
        if value is None or value.shape is None:
            raise self.blocked("has a tensor of unknown rank", Reason.SHAPE_UNKNOWN)
        return value.shape

    def size(self, port: Port, axis: int) -> int:
        """Return how long an axis is.

        Raises
        ------
        Blocked
            If that is not known.
        """
        size = self.shape(port)[axis]
        if not isinstance(size, int):
            raise self.blocked("has an axis of unknown size", Reason.SHAPE_UNKNOWN)
        return size

    def has(self, port: Port, axis: int) -> bool:
        """Whether an axis has labels already."""
        value = self.value(port)
        return value is not None and self.axes.has(value, axis, self._use(port))

    def get(self, port: Port, axis: int) -> Ids:
        """Return the labels of an axis, new ones where it has none."""
        value = self.value(port)
        if value is None:
            raise self.blocked("lacks an input or output", Reason.MALFORMED)
        return self.axes.get(value, axis, self._use(port))

    def tie(self, port: Port, axis: int, labels: Ids) -> None:
        """Give labels to an axis of a tensor, if that is there."""
        value = self.value(port)
        if value is not None:
            if axis >= len(self.shape(port)):
                raise self.blocked("has a tensor with too few axes", Reason.MALFORMED)
            self.axes.hold(value, axis, labels, self._use(port))

    def fence(self, labels: Ids, parts: Ids) -> None:
        """Keep labels in the parts of an axis that they are in."""
        self.axes.labels.fence(labels, parts)

    def roles(self, of: Mapping[Port, Sequence[str]]) -> None:
        """Tie all axes that have the role of this one.

        Parameters
        ----------
        of : mapping of Port to sequence of str
            The role of each axis of a tensor; empty where its order is read.
        """
        own = of.get(self.port, ())
        role = own[self.axis] if self.axis < len(own) else ""
        if not role:
            raise self.blocked(f"depends on the order of axis {self.axis}")
        for port, roles in of.items():
            for axis, other in enumerate(roles):
                if other == role:
                    self.tie(port, axis, self.labels)

    def attr(self, name: str, default: Any) -> Any:
        """Return an attribute.

        Raises
        ------
        Blocked
            If it is a parameter of the function that the node is in.
        """
        value = self.node.attr(name, default)
        if isinstance(value, gs.Node.AttributeRef):
            raise self.blocked(f"uses {name} as a parameter", Reason.NOT_CONSTANT)
        return value

    def integers(self, slot: int) -> list[int]:
        """Return the values of a constant input of integers.

        Raises
        ------
        Blocked
            If it is not constant.
        """
        found = integers_of(self.node.input(slot))
        if found is None:
            raise self.blocked(f"has an input {slot} that is not constant", Reason.NOT_CONSTANT)
        return found

    def known(self, slot: int) -> Partial:
        """Return what is known of an input of integers, see :mod:`normswap.graph.partial`.

        Raises
        ------
        Blocked
            If that is nothing.
        """
        value = self.node.input(slot)
        source = None if value is None else unless_blocked(constant_source, value)
        if source is not None:
            return source.load()
        if value is None or value.partial is None:
            raise self.blocked(f"has an input {slot} that is not constant", Reason.NOT_CONSTANT)
        return value.partial

    def learn(self, port: Port, axis: int, size: int) -> None:
        """Note how long an axis is, where that was not known."""
        value = self.value(port)
        shape = () if value is None or value.shape is None else value.shape
        if value is not None and axis < len(shape) and not isinstance(shape[axis], int):
            value.shape = (*shape[:axis], size, *shape[axis + 1 :])

    def blocked(self, detail: str, reason: Reason = Reason.ORDER) -> Blocked:
        """Make a refusal that names the node."""
        return Blocked(reason, self.node.out.name, f"{self.node.op} {self.node.title} {detail}")

    def _use(self, port: Port) -> Use | None:
        is_output, slot = port
        return None if is_output else Use(self.node, slot)

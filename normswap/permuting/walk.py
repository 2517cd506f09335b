"""From the channels of some tensors to all that moves with them.

The walk begins at an axis of a tensor, whose places get labels, and asks the operator that makes
it and all that read it (:mod:`normswap.permuting.operators`) which other axes have the same
labels; and so on. A bias, a slope, a scale or another constant with one element a channel belongs
to the node that reads it: others of the same values get a copy. A weight belongs to all that read
it, who so keep one order. Branches of If and bodies of functions are gone through like the rest; a
function that several call has one order for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from normswap.graph.network import Use
from normswap.graph.reasons import Blocked, Reason, blocked_by
from normswap.permuting.axes import is_leaf
from normswap.permuting.operators import find
from normswap.permuting.operators.at import At

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from normswap.graph.network import Graph, Network, Node, Value
    from normswap.permuting.axes import Axes, Held


class Walk:
    """Labels the axes that move with those that have labels.

    Parameters
    ----------
    axes : Axes
    network : Network
    calls : mapping of int to sequence of Node
        The nodes that call a function, by the id of its body.
    """

    def __init__(self, axes: Axes, network: Network, calls: Mapping[int, Sequence[Node]]) -> None:
        self._axes = axes
        self._calls = calls
        bodies = {id(body): body for body in network.bodies}
        self._bodies = {node.key: bodies[body] for body, nodes in calls.items() for node in nodes}
        self._owners = dict(_owners(network))
        self._ends: dict[int, list[tuple[Graph, int]]] = {}
        for graph in network.graphs:
            for index, value in enumerate(graph.outputs):
                self._ends.setdefault(id(value), []).append((graph, index))

    def run(self) -> None:
        """Go on until nothing new has labels."""
        while self._axes.new:
            held = self._axes.new.popleft()
            for ask in self._neighbours(held):
                block = blocked_by(ask)
                if block is not None:
                    self._axes.labels.fix(held.labels, block)

    # ------------------------------------------------------------------------------- who is asked

    def _neighbours(self, held: Held) -> Iterator[_Question]:
        """Yield the questions to all that make or read a tensor."""
        value = held.value
        if value.overridable:
            detail = f"{value.name} is a graph input with a default value"
            yield _refusal(Reason.OVERRIDABLE, value, detail)
        if held.use is not None:
            return  # who reads it has been asked
        if value.producer is not None and not is_leaf(value):
            slot = next(i for i, out in enumerate(value.producer.outputs) if out is value)
            yield self._question(value.producer, held, slot, is_output=True)
        elif not is_leaf(value):
            yield self._from_outside(held)
        for use in value.readers.values():
            yield self._question(use.node, held, use.slot, is_output=False)
        for graph, index in self._ends.get(id(value), ()):
            yield self._to_outside(held, graph, index)

    def _at(self, node: Node, held: Held, slot: int, *, is_output: bool) -> At:
        return At(self._axes, node, is_output, slot, held.axis, held.labels)

    def _question(self, node: Node, held: Held, slot: int, *, is_output: bool) -> _Question:
        def ask() -> None:
            at = self._at(node, held, slot, is_output=is_output)
            body = self._bodies.get(node.key)
            if body is not None:
                side = body.outputs if is_output else body.inputs
                if slot < len(side):
                    self._axes.hold(side[slot], held.axis, held.labels)
                return
            if any(isinstance(attribute, gs.Graph) for attribute in node.attrs.values()):
                self._tie_branches(node, at)
                return
            if node.opset < 7 and not node.domain:
                raise at.blocked(f"is of opset {node.opset}, before 7", Reason.OPSET)
            follow = find(node)
            if follow is None:
                raise at.blocked("may depend on the order of the channels")
            follow(at)

        return ask

    def _tie_branches(self, node: Node, at: At) -> None:
        """Tie what an If makes with what its branches do."""
        if node.op != "If" or not at.is_output:
            raise at.blocked("may depend on the order of the channels")
        branches = (graph for graph in node.graph.subgraphs if self._owners[id(graph)] is node)
        for value in (node.output(at.slot), *(body.outputs[at.slot] for body in branches)):
            if value is not None:
                self._axes.hold(value, at.axis, at.labels)

    def _from_outside(self, held: Held) -> _Question:
        """Ask whoever gives a graph its inputs."""
        value = held.value
        calls = self._calls.get(id(value.graph), ())
        if value not in value.graph.inputs or not calls:
            return _refusal(Reason.GRAPH_INPUT, value, f"{value.name} is a graph input")
        index = value.graph.inputs.index(value)

        def ask() -> None:
            for call in calls:
                given = call.input(index)
                if given is not None:
                    self._axes.hold(given, held.axis, held.labels, Use(call, index))

        return ask

    def _to_outside(self, held: Held, graph: Graph, index: int) -> _Question:
        """Ask whoever takes the outputs of a graph."""
        value = held.value
        owner, calls = self._owners.get(id(graph)), self._calls.get(id(graph), ())
        if is_leaf(value) or (owner is None and not calls):
            return _refusal(Reason.GRAPH_OUTPUT, value, f"{value.name} is a graph output")

        def ask() -> None:
            if owner is not None:
                self._tie_branches(owner, self._at(owner, held, index, is_output=True))
            for call in calls:
                made = call.output(index)
                if made is not None:
                    self._axes.hold(made, held.axis, held.labels)

        return ask


_Question = Callable[[], None]


def _refusal(reason: Reason, value: Value, detail: str) -> _Question:
    def ask() -> None:
        raise Blocked(reason, value.name, detail)

    return ask


def _owners(network: Network) -> Iterator[tuple[int, Node]]:
    """Yield the graphs that are bodies of a node, by id, and that node."""
    for graph in network.graphs:
        inner = iter(graph.subgraphs)
        for node in graph.nodes:
            for attribute in node.attrs.values():
                if isinstance(attribute, gs.Graph):
                    yield id(next(inner)), node

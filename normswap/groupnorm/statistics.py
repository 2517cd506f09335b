"""Running statistics: whose they are, and where they are read.

What has running statistics is a *layer*: a mean and a variance, and all nodes that read these two
tensors. A network that is used twice has each of its layers in two places, and one in a function
has one for each pair of statistics that its calls hand in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.functions import overload_of
from normswap.graph.batchnorm import epsilon_of
from normswap.graph.evaluate import constant_source
from normswap.graph.network import Use
from normswap.graph.reasons import Blocked, Reason, blocked_by

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from normswap.graph.network import Graph, Network, Node, Value
    from normswap.groupnorm.plan import Untouched
    from normswap.model import Model, TensorSource

    Calls = Mapping[int, Sequence[Node]]


@dataclass(slots=True, eq=False)
class SharedStatistics:
    """A mean and a variance, and the nodes that they normalize by.

    Attributes
    ----------
    nodes : list of Node
        In the order of the graph.
    statistics : tuple of (Value, Value)
        Mean and variance where they are constants: outside of a function that they are handed to.
    places : list of (Use, Use)
        Where nodes, or calls of functions, read these two.
    """

    nodes: list[Node]
    statistics: tuple[Value, Value]
    places: list[tuple[Use, Use]] = field(default_factory=list)

    @property
    def sources(self) -> tuple[TensorSource, TensorSource]:
        """The old mean and variance."""
        mean, var = (constant_source(value) for value in self.statistics)
        return mean, var

    @property
    def epsilon(self) -> float:
        """Of the first node."""
        return epsilon_of(self.nodes[0])

    def old(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the old mean and variance."""
        mean, var = (source.load().astype(np.float64).reshape(-1) for source in self.sources)
        return mean, var


@dataclass(frozen=True, slots=True)
class FoundLayers:
    """What can be recalibrated of a model, and what can't.

    Attributes
    ----------
    layers : list of SharedStatistics
    kept : list of Untouched
    """

    layers: list[SharedStatistics]
    kept: list[Untouched]


def constant_places(node: Node, calls: Calls) -> list[tuple[Use, Use]]:
    """Return where the statistics of a node are read from, which are constants there.

    Raises
    ------
    Blocked
        They are not, or nobody calls the function that the node is in.
    """
    places = places_of(Use(node, 3), Use(node, 4), calls)
    if not places:
        raise Blocked(Reason.NO_ESTIMATE, node.title, "nothing calls the function that it is in")
    for use in (use for pair in places for use in pair):
        block = blocked_by(constant_source, use.node.operand(use.slot))
        if block is not None and block.reason is Reason.OVERRIDABLE:
            raise Blocked(block.reason, node.title, "its mean or variance is a graph input")
        if block is not None:
            raise Blocked(block.reason, node.title, "its mean and variance are not constants")
    return places


def calls_of(model: Model, network: Network) -> Calls:
    """Return the nodes that call a function, by the id of its body."""
    bodies = {
        (function.domain or "", function.name, overload_of(function)): body
        for function, body in zip(model.graph.functions, network.bodies, strict=True)
    }
    calls: dict[int, list[Node]] = {}
    for node in network.nodes():
        body = bodies.get((node.domain, node.op, node.overload))
        if body is not None:
            calls.setdefault(id(body), []).append(node)
    return calls


def called_bodies(model: Model, network: Network) -> list[Graph]:
    """Return the bodies of the functions that the main graph calls, itself or through others."""
    calls = calls_of(model, network)
    reached, found = {id(network.graphs[0])}, -1
    while found < len(reached):
        found = len(reached)
        for body in network.bodies:
            if any(id(_root(node.graph)) in reached for node in calls.get(id(body), ())):
                reached.add(id(body))
    return [body for body in network.bodies if id(body) in reached]


def _root(graph: Graph) -> Graph:
    """Return the main graph, or the body of a function, that a graph is in."""
    while graph.parent is not None:
        graph = graph.parent
    return graph


def places_of(mean: Use, var: Use, calls: Calls) -> list[tuple[Use, Use]]:
    """Return where a node's statistics are read, outside of functions that are handed them."""
    found: list[tuple[Use, Use]] = []
    pending = [(mean, var)]
    seen = set(pending)
    while pending:
        pair = pending.pop()
        arguments = [_argument(use) for use in pair]
        body = next((argument[0] for argument in arguments if argument is not None), None)
        if body is None:
            found.append(pair)
            continue
        for call in reversed(calls.get(id(body), ())):
            mean, var = (
                use if argument is None else Use(call, argument[1])
                for use, argument in zip(pair, arguments, strict=True)
            )
            is_given = mean.node.input(mean.slot) and var.node.input(var.slot)
            if is_given and (mean, var) not in seen:
                seen.add((mean, var))
                pending.append((mean, var))
    return found


def _argument(use: Use) -> tuple[Graph, int] | None:
    """Return the function of which a tensor is an argument, and which one; None if it is none."""
    value = use.node.input(use.slot)
    if value is None or value.producer is not None or ":" not in value.graph.path:
        return None
    if value not in value.graph.inputs or value.graph.parent is not None:
        return None
    return value.graph, value.graph.inputs.index(value)


def behind_identities(value: Value) -> Value:
    """Return the tensor that another is, perhaps under several names.

    Training exports hand the statistics of a layer from one use of it to the next in this way.
    Other exporters tell equal tensors of different layers apart by it, so that it is one layer only
    where scale and B are the very same.
    """
    while value.producer is not None and value.producer.op == "Identity":
        value = value.producer.operand(0)
    return value


def are_trivial(mean: Value, var: Value) -> bool:
    """Whether statistics are those of no data, which tools may share among layers by their values.

    Then scale and B tell whether nodes are one layer.
    """
    values = [constant_source(value).load() for value in (mean, var)]
    return not (values[0] != 0).any() and not (values[1] != 1).any()

"""The way back from what a network is judged by to all that is fitted, on one batch.

The network is run once, and from what its nodes read and made their adjoints are chained backwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from normswap.dtypes import is_float
from normswap.graph.build import build_network
from normswap.graph.evaluate import constant_source, is_constant
from normswap.groupnorm.levels import bodies_of
from normswap.groupnorm.refit.adjoints.base import innermost
from normswap.groupnorm.refit.adjoints.rules import Step, rule_of
from normswap.model import load
from normswap.semantics.families import LINEAR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from normswap.graph.network import Network, Node, Value
    from normswap.groupnorm.refit.adjoints.base import Pull

    Array = npt.NDArray[Any]
    Tensors = Mapping[str, Array]

WIDE = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE})
"""Types fine enough to see outputs move a little."""


@dataclass(slots=True)
class Route:
    """The nodes between what is fitted and what it is judged by.

    Attributes
    ----------
    names : frozenset of str
        The parameters of which all ways to the outputs are known.
    unknown : dict of str to str
        Of others, by name: the node that is in the way.
    nodes : list of (Node, frozenset of int)
        In order, with the inputs that depend on these parameters.
    taps : dict of str to int
        What is asked of a run, and its type.
    constants : dict of str to ndarray
    """

    names: frozenset[str]
    unknown: dict[str, str]
    nodes: list[tuple[Node, frozenset[int]]]
    taps: dict[str, int]
    constants: dict[str, Array] = field(default_factory=dict)

    def nbytes(self, values: Tensors) -> int:
        """Return how many the tensors on it have, of a batch with these."""
        return sum(values[name].nbytes for name in self.taps)

    def multiplications(self, values: Tensors) -> int:
        """Return how many the linear layers take, on a batch with these tensors."""
        return sum(_multiplications(node, values) for node, _ in self.nodes)


def find_route(path: Path, parameters: Sequence[str], ends: Iterable[str]) -> Route:
    """Find how parameters, which are inputs of a network, come to its outputs.

    Parameters
    ----------
    path : Path
        The student.
    parameters : sequence of str
    ends : iterable of str
    """
    network = build_network(load(path))
    graph = network.graphs[0]
    captured = _captured(network)
    nodes = graph.topological()
    wanted = set(ends)
    leading = []
    for node in reversed(nodes):  # those that lead to an end
        if any(value is not None and value.name in wanted for value in node.outputs):
            leading.append(node)
            wanted |= {value.name for value in node.inputs if value is not None}
            wanted |= captured.get(node.key, frozenset())
    leading.reverse()
    # Of every tensor, the parameters that it depends on.
    depends: dict[str, frozenset[str]] = {name: frozenset({name}) for name in parameters}
    unknown: dict[str, str] = {}
    for node in leading:
        if not any(value is not None and _is_smooth(value) for value in node.outputs):
            continue  # sizes, indices, comparisons: a small move leaves them what they are
        active = _active(node, depends)
        inside = captured.get(node.key, frozenset()) & depends.keys()
        read = inside | {node.operand(slot).name for slot in active}
        own = frozenset().union(*(depends[name] for name in read))
        if inside or (active and not _is_known(node, active)):
            unknown |= dict.fromkeys(own - unknown.keys(), node.title)
        for value in node.outputs:
            if value is not None and own and _is_smooth(value):
                depends[value.name] = own
    names = frozenset(parameters) - unknown.keys()
    reached = {name: own & names for name, own in depends.items() if own & names}
    route = Route(names, unknown, [], {})
    for node in leading:
        active = _active(node, reached)
        if active and any(value is not None and value.name in reached for value in node.outputs):
            route.nodes.append((node, active))
            for value in (*node.inputs, *node.outputs):
                _show(route, value)
    return route


def _captured(network: Network) -> dict[int, frozenset[str]]:
    """Return the tensors of the main graph that are read in the bodies of a node, by its key."""
    main, bodies = network.graphs[0], bodies_of(network)
    found = {}
    for node in main.nodes:
        graphs = [inner for body in bodies.get(node.key, ()) for inner in body.family()]
        values = [v for graph in graphs for item in graph.nodes for v in item.inputs]
        values += [v for graph in graphs for v in graph.outputs]
        found[node.key] = frozenset(v.name for v in values if v is not None and v.graph is main)
    return found


def _is_smooth(value: Value) -> bool:
    return value.data_type is None or is_float(value.data_type)


def _active(node: Node, depends: Mapping[str, object]) -> frozenset[int]:
    inputs = enumerate(node.inputs)
    return frozenset(slot for slot, value in inputs if value is not None and value.name in depends)


def _is_known(node: Node, active: frozenset[int]) -> bool:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    typed = all(value.data_type is not None or is_constant(value) for value in values)
    return typed and rule_of(node, active) is not None


def _show(route: Route, value: Value | None) -> None:
    """Let a tensor be asked for, or know it already."""
    if value is None or value.name in route.taps or value.name in route.constants:
        return
    if is_constant(value):
        route.constants[value.name] = constant_source(value).load()
    elif value.data_type is not None and value.name not in route.names:
        route.taps[value.name] = value.data_type


def _multiplications(node: Node, values: Tensors) -> int:
    if node.op not in LINEAR:
        return 0
    x, weight = (values[node.operand(slot).name] for slot in (0, 1))
    if node.op == "ConvTranspose":  # each element by its part of the weight
        return x.size * math.prod(weight.shape[1:])
    if node.op == "Conv":
        return values[node.out.name].size * math.prod(weight.shape[1:])
    return values[node.out.name].size * int(x.shape[0 if node.attr("transA", 0) else -1])


class Linearized:
    """A route, linearized where a batch has brought it.

    Parameters
    ----------
    route : Route
    values : dict of str to ndarray
        The tensors of the batch, and the parameters. Each is replaced by a copy in the order that
        it is used in, so that not all are there twice.
    """

    def __init__(self, route: Route, values: dict[str, Array]) -> None:
        self._names = route.names
        for name in route.taps:
            values[name] = innermost(values[name])
        self._pulls: list[tuple[Node, Pull]] = []
        for node, active in route.nodes:
            step = Step(
                node.op,
                node.domain,
                node.opset,
                node.attrs,
                tuple(_known(value, route, values) for value in node.inputs),
                tuple(_known(value, route, values) for value in node.outputs),
                active,
            )
            rule = rule_of(node, active)
            if rule is None:
                raise AssertionError(f"{node.title} has no rule")
            self._pulls.append((node, rule(step)))
        self.nbytes = sum(_held([pull for _, pull in self._pulls]).values())

    def pull(self, ends: Mapping[str, Array]) -> dict[str, Array]:
        """Return what comes back to the parameters."""
        known = dict(ends)
        for node, pull in reversed(self._pulls):
            made = [
                None if value is None else known.pop(value.name, None) for value in node.outputs
            ]
            if all(value is None for value in made):
                continue
            for slot, part in pull(made).items():
                name = node.operand(slot).name
                known[name] = known[name] + part if name in known else part
        return {name: known[name] for name in self._names if name in known}


def _held(pulls: Iterable[Any]) -> dict[int, int]:
    """Return the bytes of each array that functions hold on to, by its identity."""
    found: dict[int, int] = {}
    pending = list(pulls)
    while pending:
        thing = pending.pop()
        if isinstance(thing, np.ndarray):
            found[id(thing)] = thing.nbytes
        elif isinstance(thing, dict):
            pending += thing.values()
        elif isinstance(thing, list | tuple):
            pending += thing
        elif isinstance(thing, Step):
            pending += (*thing.inputs, *thing.outputs)
        else:
            pending += [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
    return found


def _known(value: Value | None, route: Route, values: Tensors) -> Array | None:
    if value is None:
        return None
    return route.constants[value.name] if value.name in route.constants else values[value.name]

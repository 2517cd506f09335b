"""The planner's view of a model: questions to a graph, answered in constant time.

A :class:`Network` is built once from the onnx-graphsurgeon graphs of a model and mirrors them: who
makes a tensor, who reads it, is it an output, is it constant. The planner tries its edits on the
mirror (:mod:`normswap.folding.draft`), never on the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx_graphsurgeon as gs

from normswap.folding.answers import Block
from normswap.folding.evaluate import constant_source
from normswap.folding.legacy import broadcasts_by_attribute, modern_operand
from normswap.folding.shapes import Dim, TensorType, function_key, infer_types, subgraph_key
from normswap.model import source_of
from normswap.model.imported import ImportedNode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.model import Model, TensorSource


class Use(NamedTuple):
    """One input of one node: where a tensor is read."""

    node: Node
    slot: int


@dataclass(slots=True, eq=False)
class Value:
    """A tensor of a graph.

    Attributes
    ----------
    data_type : int or None
        ``TensorProto.DataType``, None where unknown.
    shape : tuple or None
        An int where a dimension is static, a name where it is symbolic, None where unknown; None as
        a whole where even the rank is.
    producer : Node or None
        None for graph inputs and initializers.
    readers : dict
        The uses of the tensor in nodes of any graph, in graph order.
    captured : bool
        Whether a subgraph of :attr:`graph` reads the tensor.
    source : TensorSource or None
        The values of an initializer.
    overridable : bool
        Whether a caller of the model may replace the initializer (it is listed as a graph input).
    varies_with : Value or None
        The tensor because of which this one was found not to be constant: itself, or one that it
        is computed from; see :mod:`normswap.folding.evaluate`.
    """

    name: str
    graph: Graph
    data_type: int | None = None
    shape: tuple[Dim, ...] | None = None
    producer: Node | None = None
    readers: dict[tuple[int, int], Use] = field(default_factory=dict)
    is_output: bool = False
    captured: bool = False
    source: TensorSource | None = None
    overridable: bool = False
    varies_with: Value | None = None

    @property
    def rank(self) -> int | None:
        """Number of axes, None where unknown."""
        return None if self.shape is None else len(self.shape)

    @property
    def is_read(self) -> bool:
        """Whether anyone would notice if it changed: a node, a subgraph, or the graph's caller."""
        return bool(self.readers or self.is_output or self.captured)


@dataclass(slots=True, eq=False)
class Node:
    """An operator of a graph.

    Attributes
    ----------
    key : int
        Number of the node, unique within the :class:`Network`.
    inputs, outputs : list of (Value or None)
        None where an optional one is left out.
    removed : bool
        Whether an edit of the draft took the node out.
    opaque : bool
        Whether no operator speaks for the node, although one has its name: it broadcasts in the
        way of opset 6 (:mod:`normswap.folding.legacy`), and it is not known how.
    overload : str
        Which of several functions of the same name the node calls, if it calls one.
    """

    key: int
    op: str
    domain: str
    name: str
    attrs: dict[str, Any]
    graph: Graph
    inputs: list[Value | None] = field(default_factory=list)
    outputs: list[Value | None] = field(default_factory=list)
    removed: bool = False
    overload: str = ""
    opaque: bool = False

    def attr(self, name: str, default: Any) -> Any:
        """Return an attribute, or what its absence means."""
        return self.attrs.get(name, default)

    def input(self, slot: int) -> Value | None:
        """Return an input; None where it is left out, in either way that ONNX has for that."""
        return self.inputs[slot] if slot < len(self.inputs) else None

    def output(self, index: int) -> Value | None:
        """Return an output; None where it is left out."""
        return self.outputs[index] if index < len(self.outputs) else None

    @property
    def out(self) -> Value:
        """The first output that is not left out."""
        return next(value for value in self.outputs if value is not None)

    @property
    def opset(self) -> int:
        """Version of the default operator set that the node's graph imports."""
        return self.graph.opset

    @property
    def title(self) -> str:
        """What to call the node: its name, or that of its output where it has none."""
        return self.name or next((value.name for value in self.outputs if value), f"#{self.key}")

    @property
    def refers_to_attributes(self) -> bool:
        """Whether an attribute is a function's parameter, so that its value is not known here."""
        return any(isinstance(value, gs.Node.AttributeRef) for value in self.attrs.values())


@dataclass(slots=True, eq=False)
class Graph:
    """The main graph, a subgraph of a node, or the body of a function.

    Attributes
    ----------
    path : str
        Where it is, for people: ``""`` for the main graph, ``"If_3.then_branch"`` for a subgraph
        (one after another where nested), ``"domain:name"`` for a function.
    """

    path: str
    opset: int
    parent: Graph | None = None
    nodes: list[Node] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    subgraphs: list[Graph] = field(default_factory=list)

    def family(self) -> list[Graph]:
        """Return the graph and all that are nested in it, outer ones first."""
        found = [self]
        for graph in found:  # grows meanwhile
            found += graph.subgraphs
        return found

    def topological(self) -> list[Node]:
        """Return the nodes by depth, then by name: an order that does not depend on the file's."""
        # The list itself is in order in a valid model, but for what a draft has put at its end.
        makers = {
            node.key: [v.producer.key for v in node.inputs if v and v.producer]
            for node in self.nodes
        }
        try:
            order = list(TopologicalSorter(makers).static_order())
        except CycleError:  # not a valid model: any order is as good
            order = list(makers)
        depth: dict[int, int] = {}
        for key in order:
            depth[key] = 1 + max((depth.get(maker, 0) for maker in makers.get(key, ())), default=0)
        return sorted(self.nodes, key=lambda node: (depth[node.key], node.title, node.key))


@dataclass(slots=True, eq=False)
class Network:
    """All graphs of a model: the main graph first, then subgraphs and functions.

    Attributes
    ----------
    graphs : list of Graph
        A function's body is there once; and once more, after all others, for each call for which
        it is specialised (:mod:`normswap.folding.functions`).
    bodies : list of Graph
        Those of the functions, in the model's order.
    """

    graphs: list[Graph] = field(default_factory=list)
    bodies: list[Graph] = field(default_factory=list)
    keys: int = 0

    def next_key(self) -> int:
        """Return a number for a new node."""
        self.keys += 1
        return self.keys - 1

    def nodes(self) -> Iterator[Node]:
        """Iterate over the nodes of all graphs that are still there."""
        for graph in self.graphs:
            for node in graph.nodes:
                if not node.removed:
                    yield node


def with_nested(graph: gs.Graph) -> Iterator[gs.Graph]:
    """Iterate over a graphsurgeon graph and its subgraphs."""
    yield graph
    for node in graph.nodes:
        for subgraph in node.subgraphs():
            yield from with_nested(subgraph)


def all_graphs(model: Model) -> Iterator[gs.Graph]:
    """Iterate over the graphsurgeon graphs of a model: main graph, subgraphs, function bodies."""
    for graph in (model.graph, *model.graph.functions):
        yield from with_nested(graph)


def gs_nodes(model: Model) -> Iterator[gs.Node]:
    """Iterate over the graphsurgeon nodes of all graphs, in the order of :attr:`Node.key`."""
    for graph in all_graphs(model):
        yield from graph.nodes


def build_network(model: Model, *, assume_constant: bool = False) -> Network:
    """Mirror a model.

    Parameters
    ----------
    model : Model
    assume_constant : bool
        Take initializers that are listed as graph inputs for constants. Up to IR version 3 all
        initializers are listed, and they are constants in any case.

    Returns
    -------
    Network
    """
    names = frozenset() if assume_constant or model.ir_version < 4 else model.overridable
    overridable = {name: model.graph.stored[name] for name in names}
    builder = Builder(Network(), infer_types(model), overridable)
    builder.add(model.graph, "", "", None)
    facts = builder.facts()
    if facts:  # from which more follows, as it would for ONNX if a fold took these nodes out
        builder = Builder(Network(), infer_types(model, facts), overridable)
        builder.add(model.graph, "", "", None)
    for number, function in enumerate(model.graph.functions):
        body = builder.add(function, function_path(function), function_key(number), None)
        builder.network.bodies.append(body)
    return builder.network


def function_path(function: gs.Function) -> str:
    """Return what to call the body of a function, see :attr:`Graph.path`."""
    return f"{function.domain or ''}:{function.name}"


class Builder:
    """Adds graphsurgeon graphs to a network.

    Parameters
    ----------
    network : Network
    types : dict
        See :func:`normswap.folding.shapes.infer_types`.
    overridable : dict of str to TensorSource
        The initializers that a caller may replace.
    attributes : dict, optional
        Of the call for which the body of a function is added.
    """

    def __init__(
        self,
        network: Network,
        types: dict[str, dict[str, TensorType]],
        overridable: dict[str, TensorSource],
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self.network = network
        self.types = types
        self.overridable = overridable
        self.attributes = attributes
        self.values: dict[int, Value] = {}  # by id of the graphsurgeon tensor
        self.places: list[tuple[str, Value]] = []  # the same, with the key of their graph

    def value(self, tensor: gs.Tensor, graph: Graph, key: str) -> Value | None:
        """Return the mirror of a tensor."""
        if not tensor.name:
            return None
        found = self.values.get(id(tensor))
        if found is None:
            found = self.values[id(tensor)] = Value(tensor.name, graph)
            self.places.append((key, found))
            if isinstance(tensor, gs.Constant):
                found.source = source_of(tensor)
                found.data_type = found.source.data_type
                found.shape = tuple(found.source.shape)
                found.overridable = found.source is self.overridable.get(tensor.name)
            else:
                known = self.types.get(key, {}).get(tensor.name)
                if known is not None:
                    found.data_type, found.shape = known
        return found

    def add(
        self, source: gs.Graph | gs.Function, path: str, key: str, parent: Graph | None
    ) -> Graph:
        """Add a graph and its subgraphs, and return it."""
        graph = Graph(path, source.opset or 0, parent)
        self.network.graphs.append(graph)
        if parent is not None:
            parent.subgraphs.append(graph)
        graph.inputs = [value for t in source.inputs if (value := self.value(t, graph, key))]
        outputs = [value for t in source.outputs if (value := self.value(t, graph, key))]
        # What a node makes belongs here, before anything is looked up: a subgraph may read it.
        for gs_node in source.nodes:
            node = Node(
                self.network.next_key(),
                gs_node.op,
                gs_node.domain or "",
                gs_node.name,
                self.resolved(gs_node.attrs),
                graph,
                overload=gs_node.proto.overload if isinstance(gs_node, ImportedNode) else "",
            )
            if node.domain == "ai.onnx":
                node.domain = ""
            graph.nodes.append(node)
            for tensor in gs_node.outputs:
                value = self.value(tensor, graph, key)
                if value is not None:
                    value.producer = node
                node.outputs.append(value)
        for node, gs_node in zip(graph.nodes, source.nodes, strict=True):
            for slot, tensor in enumerate(gs_node.inputs):
                value = self.value(tensor, graph, key)
                node.inputs.append(value)
                if value is not None:
                    self.read(value, Use(node, slot))
            if broadcasts_by_attribute(node):
                self.modernize(node)
            if node.op == "BatchNormalization" and not node.domain:
                self.count_channels(node)
        for value in outputs:
            graph.outputs.append(value)
            value.is_output = True
            if value.graph is not graph:
                value.captured = True
        lead = f"{path}/" if path else ""
        for index, node in enumerate(graph.nodes):
            for name, attribute in node.attrs.items():
                if isinstance(attribute, gs.Graph):
                    inner = subgraph_key(key, index, name)
                    self.add(attribute, f"{lead}{node.title}.{name}", inner, graph)
        return graph

    def facts(self) -> dict[str, dict[str, TensorType]]:
        """Return the types that are known here but were not inferred, by graph and name.

        They are those of constants that nodes compute, and the channels that a BatchNormalization
        has parameters for.
        """
        found: dict[str, dict[str, TensorType]] = {}
        for key, value in self.places:
            if value.producer is None:
                continue
            data_type, shape = value.data_type, value.shape
            known = self.types.get(key, {}).get(value.name, TensorType(None, None))
            if shape is None:
                source = constant_source(value)
                if isinstance(source, Block):
                    continue
                data_type, shape = source.data_type, tuple(source.shape)
            elif shape == known.shape:
                continue
            sizes = tuple(size if isinstance(size, int) else None for size in shape)
            found.setdefault(key, {})[value.name] = TensorType(data_type, sizes)
        return found

    def resolved(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Return attributes with the values that the call gives them, as far as there is one."""
        if self.attributes is None:
            return dict(attrs)
        found = {}
        for name, value in attrs.items():
            if not isinstance(value, gs.Node.AttributeRef):
                found[name] = value
            elif self.attributes.get(value.name) is not None:
                found[name] = self.attributes[value.name]
        return found

    @staticmethod
    def count_channels(node: Node) -> None:
        """Learn how many channels a tensor has from the parameters that normalize it."""
        scale = node.input(1)
        channels = scale.shape[0] if scale and scale.shape and len(scale.shape) == 1 else None
        for value in (node.input(0), node.output(0)):
            if (
                isinstance(channels, int)
                and value is not None
                and value.shape is not None
                and len(value.shape) > 1
                and not isinstance(value.shape[1], int)
            ):
                value.shape = (value.shape[0], channels, *value.shape[2:])

    @staticmethod
    def modernize(node: Node) -> None:
        """Let a node of opset 6 read its second operand as NumPy would need it."""
        operand, old = modern_operand(node), node.inputs[1]
        node.opaque = operand is None
        if operand is None or old is None:
            return
        view = Value(old.name, old.graph, operand.data_type, operand.shape)
        view.source, view.overridable = operand, old.overridable
        view.readers[node.key, 1] = old.readers.pop((node.key, 1))
        node.inputs[1] = view

    @staticmethod
    def read(value: Value, use: Use) -> None:
        """Note that a tensor is read."""
        value.readers[use.node.key, use.slot] = use
        if value.graph is not use.node.graph:
            value.captured = True

"""How the planner's view of a model is made of its onnx-graphsurgeon graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_graphsurgeon as gs

from normswap.graph.evaluate import constant_source
from normswap.graph.network import Graph, Network, Node, Use, Value
from normswap.graph.opset6 import broadcasts_by_attribute, modern_operand
from normswap.graph.reasons import unless_blocked
from normswap.graph.shapes import function_key, infer_types, subgraph_key
from normswap.graph.sizes import TensorType, axes_in_doubt
from normswap.model import Model, TensorSource, source_of
from normswap.model.imported import ImportedNode

if TYPE_CHECKING:
    from collections.abc import Iterator


def with_nested(graph: gs.Graph) -> Iterator[gs.Graph]:
    """Iterate over a graphsurgeon graph and its subgraphs."""
    yield graph
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                yield from with_nested(value)


def all_graphs(model: Model) -> Iterator[gs.Graph]:
    """Iterate over the graphsurgeon graphs of a model: main graph, subgraphs, function bodies."""
    for graph in (model.graph, *model.graph.functions):
        yield from with_nested(graph)


def gs_nodes(model: Model) -> Iterator[gs.Node]:
    """Iterate over the graphsurgeon nodes of all graphs, in the order of :attr:`Node.key`."""
    for graph in all_graphs(model):
        yield from graph.nodes


def gs_nodes_with_paths(model: Model) -> Iterator[tuple[str, gs.Node]]:
    """Iterate over :func:`gs_nodes`, each with the path of its graph, see :attr:`Graph.path`."""
    yield from _with_paths(model.graph, "")
    for function in model.graph.functions:
        yield from _with_paths(function, function_path(function))


def _with_paths(graph: gs.Graph, path: str) -> Iterator[tuple[str, gs.Node]]:
    yield from ((path, node) for node in graph.nodes)
    lead = f"{path}/" if path else ""
    for node in graph.nodes:
        title = node.name or next((tensor.name for tensor in node.outputs if tensor.name), "")
        for name, attribute in node.attrs.items():
            if isinstance(attribute, gs.Graph):
                yield from _with_paths(attribute, f"{lead}{title}.{name}")


def build_network(model: Model, *, assume_constant: bool = False) -> Network:
    """Mirror a model.

    Parameters
    ----------
    assume_constant : bool
        Take initializers that are listed as graph inputs for constants. Up to IR version 3 all
        initializers are listed, and they are constants in any case.

    Raises
    ------
    ModelError
        A tensor is made by nothing, by two nodes, or by itself.
    """
    model.require_made()
    names = frozenset() if assume_constant or model.ir_version < 4 else model.overridable
    overridable = {name: model.graph.stored[name] for name in names}
    builder = Builder(Network(), infer_types(model), overridable)
    builder.add(model.graph, "", "", None)
    facts = builder.facts()
    if facts:  # from which more follows, as it would for ONNX if a fold took these nodes out
        doubts = {(key, value.name): value.doubtful for key, value in builder.places}
        builder = Builder(Network(), infer_types(model, facts), overridable)
        builder.add(model.graph, "", "", None)
        for key, value in builder.places:  # ONNX is told no facts when the model is loaded
            value.doubtful |= doubts.get((key, value.name), frozenset())
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
    types : dict
        See :func:`normswap.graph.shapes.infer_types`.
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
                    found.doubtful = axes_in_doubt(known.shape)
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
                source = unless_blocked(constant_source, value)
                if source is None:
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

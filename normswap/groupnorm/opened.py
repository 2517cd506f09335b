"""A network whose running statistics are inputs, and that shows what comes to its normalizations.

It is what statistics are estimated in: functions are inlined, every layer normalizes by statistics
that are fed, and of what comes to a layer in a body (of If, Loop, Scan) the statistics are handed
out of it by one more output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from normswap.graph.adding import added
from normswap.graph.batchnorm import is_batchnorm, is_per_activation
from normswap.graph.build import all_graphs, build_network, gs_nodes
from normswap.graph.mode import mode_of
from normswap.graph.names import Names
from normswap.groupnorm.inlined import inlined
from normswap.groupnorm.levels import Order
from normswap.groupnorm.turns import Turns
from normswap.model import ArrayTensor, load, make_constant, stage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from normswap.graph.network import Network, Node
    from normswap.groupnorm.statistics import SharedStatistics
    from normswap.model import Model

_TAG = "normswap_key"  # an attribute by which a node is known after its function was inlined
_SHOWN = frozenset({TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE})


@dataclass(frozen=True, slots=True)
class Tap:
    """Where what comes to a layer can be seen.

    Attributes
    ----------
    tensor : str
        Of the main graph.
    data_type : int
    is_summary : bool
        Whether it is not what comes to the layer, ``(N, C, *spatial)``, but for each turn of the
        loops around it count, mean and variance by channel, as a vector of 3 C numbers for each
        turn, all 0 where nothing came. (What comes may be of another size in every turn.)
    """

    tensor: str
    data_type: int
    is_summary: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A network with open statistics.

    Attributes
    ----------
    path : Path
    taps : list of list of Tap
        Of every layer; none where it can't be seen, or nothing comes to it.
    inputs : list of (str, str)
        Names of mean and variance as inputs, float64 ``(C,)``, of every layer.
    levels, recurring, frontiers
        See :class:`normswap.groupnorm.levels.Order`.
    """

    path: Path
    taps: list[list[Tap]]
    inputs: list[tuple[str, str]]
    levels: list[list[int]]
    recurring: dict[int, int]
    frontiers: list[dict[str, int]] | None


def open_statistics(
    original: Path, layers: Sequence[SharedStatistics], folder: Path, *, summed: bool = False
) -> Opened:
    """Write a network with open statistics.

    Parameters
    ----------
    original : Path
        The model in which the layers were found.
    layers : sequence of SharedStatistics
    folder : Path
        Where it is written.
    summed : bool
        Whether all taps are summaries, also those in the main graph.
    """
    model = load(original)
    keys = {node.key for layer in layers for node in layer.nodes}
    for key, gs_node in enumerate(gs_nodes(model)):
        if key in keys:
            gs_node.attrs[_TAG] = key
    if model.graph.functions:
        model = inlined(model, folder)
    network = build_network(model, assume_constant=True)
    surgery = _Surgery(model, network)
    uses = _uses(network, surgery.surgeon, layers)
    order = Order(network, {node.key: layer for node, layer in uses}, len(layers))
    inputs = [surgery.statistics(layer) for layer in layers]
    taps: list[list[Tap]] = [[] for _ in layers]
    for node, number in reversed(uses):
        channels = math.prod(layers[number].sources[0].shape)
        tap = surgery.tap(node, channels, summed=summed)
        if tap is not None:
            taps[number].append(tap)
        surgery.open(node, inputs[number])
    open_ = {node.key for node, _ in uses}
    for node in network.nodes():
        if node.key not in open_ and is_batchnorm(node) and mode_of(node).is_training:
            surgery.by_batch(node)
    path = folder / "opened.onnx"
    with stage(model, path) as staged:
        staged.commit()
    names = [(mean.name, var.name) for mean, var in inputs]
    return Opened(path, taps, names, order.levels, order.recurring, order.frontiers())


def _uses(
    network: Network, surgeon: dict[int, gs.Node], layers: Sequence[SharedStatistics]
) -> list[tuple[Node, int]]:
    """Return the nodes of layers, each with the number of its layer."""
    by_key: dict[int, list[int]] = {}
    for number, layer in enumerate(layers):
        for node in layer.nodes:
            by_key.setdefault(node.key, []).append(number)
    found = []
    bodies = {id(body) for body in network.bodies}
    for node in network.nodes():
        key = surgeon[node.key].attrs.pop(_TAG, None)
        node.attrs.pop(_TAG, None)
        home = node.graph
        while home.parent is not None:
            home = home.parent
        if key is None or id(home) in bodies:
            continue
        numbers = by_key[key]
        if len(numbers) > 1:  # calls hand in different ones
            read = (node.operand(3).name, node.operand(4).name)
            names = {tuple(v.name for v in layers[number].statistics): number for number in numbers}
            numbers = [names[read]] if read in names else []
        found += [(node, number) for number in numbers]
    return found


class _Surgery:
    """The edits that open a network."""

    def __init__(self, model: Model, network: Network) -> None:
        self.graph = model.graph
        self.names = Names(model)
        self.surgeon = dict(enumerate(gs_nodes(model)))
        self.homes = {
            id(mirror): graph
            for graph, mirror in zip(all_graphs(model), network.graphs, strict=True)
        }
        self._turns = Turns(model, self.names)

    def statistics(self, layer: SharedStatistics) -> tuple[gs.Variable, gs.Variable]:
        """Add a mean and a variance as inputs of the graph."""
        mean, var = (
            gs.Variable(
                self.names.fresh(f"{layer.nodes[0].title}/{what}"),
                np.dtype(np.float64),
                (math.prod(source.shape),),
            )
            for what, source in zip(("open_mean", "open_var"), layer.sources, strict=True)
        )
        self.graph.inputs.extend((mean, var))
        return mean, var

    def open(self, node: Node, statistics: tuple[gs.Variable, gs.Variable]) -> None:
        """Let a node normalize by these statistics, whichever mode it is in."""
        self._normalize(node, self.graph, statistics)

    def by_batch(self, node: Node) -> None:
        """Let a node in training mode normalize by statistics that are computed before it.

        onnxruntime has no such mode before opset 14, and since then writes running statistics over
        whatever shares their initializers.
        """
        is_complete = all(node.input(slot) is not None for slot in range(5))
        if is_per_activation(node) or node.opset < 7 or not is_complete:
            return
        home, x = self.homes[id(node.graph)], self.surgeon[node.key].inputs[0]
        wide = self._cast(home, x, TensorProto.DOUBLE, x.name)
        _, *moments = self._moments(home, wide, node.opset)
        flat = self._integers([-1])
        mean, var = (self._op(home, "Reshape", [value, flat]) for value in moments)
        self._normalize(node, home, (mean, var))

    def _normalize(
        self, node: Node, home: gs.Graph, statistics: tuple[gs.Variable, gs.Variable]
    ) -> None:
        """Put a node in inference mode with statistics that are computed in a graph."""
        gs_node = self.surgeon[node.key]
        if any(output is not None and output.is_used for output in node.outputs[1:]):
            rest = gs.Node(
                gs_node.op,
                self.names.fresh(node.title),
                dict(gs_node.attrs),
                list(gs_node.inputs),
                [gs.Variable(self.names.fresh(f"{node.title}/unused")), *gs_node.outputs[1:]],
            )
            self.homes[id(node.graph)].nodes.append(rest)
        while len(gs_node.outputs) > 1:
            gs_node.outputs.pop()
        gs_node.attrs.pop("training_mode", None)
        for slot, wide in zip((3, 4), statistics, strict=True):
            known = (node.operand(slot).data_type, node.operand(0).data_type, TensorProto.FLOAT)
            data_type = next(filter(None, known))
            gs_node.inputs[slot] = self._cast(home, wide, data_type, wide.name)

    def tap(self, node: Node, channels: int, *, summed: bool) -> Tap | None:
        """Return where what comes to a node can be seen; None where that is nowhere."""
        x, home = node.operand(0), self.homes[id(node.graph)]
        if not summed and home is self.graph and x.source is None and x.data_type in _SHOWN:
            return Tap(x.name, x.data_type or 0)
        tensor = self.surgeon[node.key].inputs[0]
        shown = self._cast(home, tensor, TensorProto.DOUBLE, x.name)
        if home is self.graph and not summed:
            return Tap(shown.name, TensorProto.DOUBLE)
        moments = self._moments(home, shown, node.opset)
        shown = self._op(home, "Concat", moments, axis=0)
        if home is not self.graph:
            if self._turns.hindrance(home):
                return None
            flat = self._op(home, "Reshape", [shown, self._integers([-1])])
            shown = self._turns.hand_out(flat, home, lambda graph: self._nothing(graph, channels))
        return Tap(shown.name, TensorProto.DOUBLE, is_summary=True)

    def _moments(self, graph: gs.Graph, x: gs.Variable, opset: int) -> list[gs.Variable]:
        """Return count, mean and variance by channel, ``(1, C, 1)`` in float64.

        Elements are counted one by one: the runtime takes the sizes of a tensor from what ONNX
        infers, which is not always what there is.
        """
        view = self._op(graph, "Reshape", [x, self._integers([0, 0, -1])])
        axes = [0, 2]
        attrs = {"axes": axes} if opset < 18 else {}
        more = [] if opset < 18 else [self._integers(axes)]

        def reduced(op: str, value: gs.Variable) -> gs.Variable:
            return self._op(graph, op, [value, *more], keepdims=1, **attrs)

        mean = reduced("ReduceMean", view)
        centred = self._op(graph, "Sub", [view, mean])
        var = reduced("ReduceMean", self._op(graph, "Mul", [centred, centred]))
        one = make_constant(self.names.fresh("statistics/one"), ArrayTensor(np.ones(1)))
        each = self._op(graph, "Add", [self._op(graph, "Sub", [view, view]), one])
        return [reduced("ReduceSumSquare", each), mean, var]

    def _op(self, graph: gs.Graph, op: str, inputs: list[gs.Tensor], **attrs: Any) -> gs.Variable:
        """Add a node whose result, if it is one that is shown, is float64."""
        float64 = np.dtype(np.float64)
        return added(graph, self.names, f"statistics/{op}", inputs, float64, **attrs)

    def _integers(self, values: list[int]) -> gs.Constant:
        array = ArrayTensor(np.array(values, np.int64))
        return make_constant(self.names.fresh("statistics/sizes"), array)

    def _nothing(self, graph: gs.Graph, channels: int) -> gs.Variable:
        """Return the summary of nothing, for the branch that has no such layer."""
        zeros = self._op(graph, "ConstantOfShape", [self._integers([3 * channels])])
        return self._cast(graph, zeros, TensorProto.DOUBLE, "nothing")

    def _cast(self, graph: gs.Graph, tensor: gs.Tensor, data_type: int, hint: str) -> gs.Variable:
        dtype = np.dtype(np.float64) if data_type == TensorProto.DOUBLE else None
        result = gs.Variable(self.names.fresh(f"{hint}/cast"), dtype)
        node = gs.Node(
            "Cast", self.names.fresh(f"{hint}/cast"), {"to": data_type}, [tensor], [result]
        )
        graph.nodes.append(node)
        return result

"""New running statistics for BatchNormalization, and training-mode exports made inference models.

What has running statistics is a *layer*: a mean and a variance, and all nodes that read these two
tensors. A network that is used twice has each of its layers in two places, and one in a function
has one for each pair of statistics that its calls hand in. Every layer gets one new mean and one
new variance (:mod:`normswap.groupnorm.estimate`), which all its nodes go on sharing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from normswap.dtypes import is_float, round_to
from normswap.errors import ModelError, UsageError
from normswap.finite import flaw_of
from normswap.folding.functions import overload_of
from normswap.graph.batchnorm import (
    EXPORT_TIP,
    epsilon_of,
    is_batchnorm,
    is_per_activation,
    require_rewritable,
    require_samples,
)
from normswap.graph.build import all_graphs, build_network, gs_nodes
from normswap.graph.evaluate import constant_source
from normswap.graph.mode import mode_of
from normswap.graph.names import Names
from normswap.graph.network import Use
from normswap.graph.normalization import site_of
from normswap.graph.reasons import Blocked, Reason, blocked_by
from normswap.groupnorm.plan import Untouched
from normswap.groupnorm.selection import Selection
from normswap.model import ArrayTensor, load, make_constant
from normswap.model.imported import ImportedGraph

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import onnx_graphsurgeon as gs

    from normswap.graph.network import Graph, Network, Node, Value
    from normswap.graph.normalization import Site
    from normswap.model import Model, TensorSource

    Calls = Mapping[int, Sequence[Node]]

DEFAULT_MOMENTUM = 0.9
LISTED = 8
"""Layers that an error message names."""

ASSUME = (
    "--assume-constant (assume_constant=True) takes initializers that are listed as graph inputs "
    "for constants, which they are as long as no caller gives others."
)


@dataclass(frozen=True, slots=True)
class RecalibrateOptions:
    """How statistics are estimated, and of what.

    Attributes
    ----------
    momentum : float or None
        Of the running estimate, batch after batch, from the statistics that the model has; None for
        the statistics of all data as one batch.
    freeze : bool
        Turn normalizations in training mode into inference ones.
    selection : Selection
        Which normalizations.
    assume_constant : bool
        Take initializers that are listed as graph inputs for constants.
    timeout : float
        Seconds for one run.

    Raises
    ------
    UsageError
        If the momentum is not in [0, 1).
    """

    momentum: float | None = None
    freeze: bool = False
    selection: Selection = field(default_factory=Selection)
    assume_constant: bool = False
    timeout: float = 600.0

    def __post_init__(self) -> None:
        """Refuse a momentum that there is not."""
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise UsageError(
                f"The momentum is {self.momentum}, and must be at least 0 and below 1.",
                tip="It is what the old statistics count; PyTorch's momentum is 1 minus that.",
            )


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """A layer with new statistics, or one that is in inference mode now with those it had.

    Attributes
    ----------
    site : Site
        Its first node.
    mean_shift : float
        How far the means moved: root mean square over channels, in old standard deviations. Of
        channels whose old statistics were finite; NaN where none were.
    variance_ratio : float
        Geometric mean over these channels of new variance over old.
    frozen : bool
        Whether it was in training mode and is not any more.
    mended : tuple of str
        What was not finite of the old statistics.
    shared : tuple of Site
        The other nodes that have the same statistics.
    """

    site: Site
    mean_shift: float
    variance_ratio: float
    frozen: bool
    mended: tuple[str, ...] = ()
    shared: tuple[Site, ...] = ()


@dataclass(slots=True, eq=False)
class Layer:
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
class Layers:
    """What can be recalibrated of a model, and what can't.

    Attributes
    ----------
    layers : list of Layer
    kept : list of Untouched
    """

    layers: list[Layer]
    kept: list[Untouched]


def find_layers(model: Model, network: Network, options: RecalibrateOptions) -> Layers:
    """Divide the normalizations of a model into layers, and those that keep their statistics.

    Raises
    ------
    UsageError
        A pattern fits nothing.
    ModelError
        There is no normalization that can be recalibrated.
    """
    nodes = [node for graph in network.graphs for node in graph.topological() if is_batchnorm(node)]
    options.selection.require_use(nodes, model.name)
    calls = _calls(model, network)
    layers: dict[tuple[int, int], Layer] = {}
    kept: list[Untouched] = []
    for node in nodes:
        block = blocked_by(_require_recalibratable, node, calls, options)
        if block is not None:
            kept.append(Untouched(site_of(node), block.reason, block.detail))
            continue
        for mean, var in _places(Use(node, 3), Use(node, 4), calls):
            pair = mean.node.operand(mean.slot), var.node.operand(var.slot)
            layer = layers.setdefault((id(pair[0]), id(pair[1])), Layer([], pair))
            layer.places.append((mean, var))
            if node not in layer.nodes:
                layer.nodes.append(node)
    if not layers:
        refuse(model, kept)
    return Layers(list(layers.values()), kept)


def refuse(model: Model, kept: Sequence[Untouched]) -> None:
    """Raise the error that nothing of a model can be recalibrated.

    Raises
    ------
    ModelError
    """
    if not kept:
        raise ModelError(
            f"{model.name} has no BatchNormalization to recalibrate.",
            tip=EXPORT_TIP,
        )
    listed = "; ".join(f"{entry.site.node}: {entry.detail}" for entry in kept[:LISTED])
    more = f"; and {len(kept) - LISTED} more" if len(kept) > LISTED else ""
    inputs = any(entry.reason is Reason.OVERRIDABLE for entry in kept)
    raise ModelError(
        f"{len(kept)} of {len(kept)} BatchNormalizations of {model.name} can't be recalibrated: "
        f"{listed}{more}.",
        tip=ASSUME if inputs else None,
    )


def _require_recalibratable(node: Node, calls: Calls, options: RecalibrateOptions) -> None:
    """Let pass a normalization of samples whose mean and variance are constants by channel."""
    options.selection.require(node)
    require_rewritable(node, in_training=True, with_statistics=not options.freeze, by_channel=True)
    channels = None
    for use in (use for pair in _constant_places(node, calls) for use in pair):
        source = constant_source(use.node.operand(use.slot))
        if not is_float(source.data_type):
            raise Blocked(Reason.ELEMENT_TYPE, node.title, "its statistics are of no float type")
        channels = math.prod(source.shape)
    require_samples(node, channels)


def _constant_places(node: Node, calls: Calls) -> list[tuple[Use, Use]]:
    """Return where the statistics of a node are read from, which are constants there.

    Raises
    ------
    Blocked
        They are not, or nobody calls the function that the node is in.
    """
    places = _places(Use(node, 3), Use(node, 4), calls)
    if not places:
        raise Blocked(Reason.NO_ESTIMATE, node.title, "nothing calls the function that it is in")
    for use in (use for pair in places for use in pair):
        block = blocked_by(constant_source, use.node.operand(use.slot))
        if block is not None and block.reason is Reason.OVERRIDABLE:
            raise Blocked(block.reason, node.title, "its mean or variance is a graph input")
        if block is not None:
            raise Blocked(block.reason, node.title, "its mean and variance are not constants")
    return places


def _calls(model: Model, network: Network) -> Calls:
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


def _places(mean: Use, var: Use, calls: Calls) -> list[tuple[Use, Use]]:
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


def find_frozen(model: Model, network: Network, options: RecalibrateOptions) -> Layers:
    """Divide the normalizations in training mode into those to freeze as they are, and the others.

    Parameters
    ----------
    model : Model
    network : Network
        In which initializers that are listed as graph inputs are constants: a node goes on reading
        the same.
    options : RecalibrateOptions

    Returns
    -------
    Layers
        Of one node each.
    """
    nodes = [node for graph in network.graphs for node in graph.topological() if is_batchnorm(node)]
    options.selection.require_use(nodes, model.name)
    calls = _calls(model, network)
    found = Layers([], [])
    for node in nodes:
        if not mode_of(node).is_training:
            continue
        block = blocked_by(_require_freezable, node, calls, options)
        if block is not None:
            found.kept.append(Untouched(site_of(node), block.reason, block.detail))
        else:
            places = _places(Use(node, 3), Use(node, 4), calls)
            mean, var = (use.node.operand(use.slot) for use in places[0])
            found.layers.append(Layer([node], (mean, var), places))
    return found


def _require_freezable(node: Node, calls: Calls, options: RecalibrateOptions) -> None:
    """Let pass a normalization of samples that has statistics of its own to normalize by."""
    options.selection.require(node)
    require_rewritable(node, in_training=True)
    channels = None
    for mean, var in _constant_places(node, calls):
        for use, least in ((mean, -math.inf), (var, -epsilon_of(node))):
            value = use.node.operand(use.slot)
            stored = constant_source(value).load()
            flaw = flaw_of(value.name, stored)
            if flaw is not None:
                raise Blocked(Reason.NON_FINITE, node.title, str(flaw))
            if not (stored > least).all():
                detail = f"{value.name} + epsilon is zero or negative"
                raise Blocked(Reason.INVALID_STATISTICS, node.title, detail)
            channels = stored.size
    require_samples(node, None if is_per_activation(node) else channels)


def freeze(nodes: Sequence[Node], surgeon: Mapping[int, gs.Node]) -> bool:
    """Turn nodes to inference mode; return whether any was in training mode."""
    training = [mode_of(node).is_training for node in nodes]
    for node in nodes:
        gs_node = surgeon[node.key]
        gs_node.attrs.pop("training_mode", None)
        if node.opset < 7:
            gs_node.attrs["is_test"] = 1
        while len(gs_node.outputs) > 1:
            gs_node.outputs.pop()
    return any(training)


def frozen(layer: Layer) -> Recalibrated:
    """Say that a layer is in inference mode now, with the statistics that it had."""
    return Recalibrated(site_of(layer.nodes[0]), 0.0, 1.0, frozen=True)


def require_frozen(path: Path, layers: Sequence[Layer]) -> None:
    """Prove of a written model that nodes are in inference mode, with the statistics that they had.

    There is nothing to run: in another mode a node is another function. What can go wrong is what
    was written, so it is read back.

    Raises
    ------
    AssertionError
        A node has another mode, more than one output, or not the same bits as statistics.
    """
    model = load(path)
    network = build_network(model, assume_constant=True)
    calls = _calls(model, network)
    nodes = {
        (node.graph.path, node.out.name): node for node in network.nodes() if is_batchnorm(node)
    }
    for layer in layers:
        (before,) = layer.nodes
        node = nodes[before.graph.path, before.out.name]
        if mode_of(node).is_training or len(node.outputs) > 1:
            raise AssertionError(f"{node.title} is not in inference mode")
        places = _places(Use(node, 3), Use(node, 4), calls)
        if _bits(places) != _bits(layer.places):
            raise AssertionError(f"{node.title} has other statistics")


def _bits(places: Sequence[tuple[Use, Use]]) -> list[bytes]:
    """Return the bytes of statistics."""
    values = [use.node.operand(use.slot) for pair in places for use in pair]
    return [constant_source(value).load().tobytes() for value in values]


def install(
    layer: Layer,
    statistics: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    edited: Edited,
    *,
    is_frozen: bool,
) -> Recalibrated:
    """Give a layer its new statistics.

    They take the place of the old ones under their name where nothing else reads these.
    """
    old, sources = layer.old(), layer.sources
    for which, what in enumerate(("input_mean", "input_var")):
        root, source = layer.statistics[which], sources[which]
        uses = {pair[which] for pair in layer.places}
        stored = round_to(statistics[which], source.data_type)
        new = ArrayTensor(np.asarray(stored).reshape(source.shape))
        owner = edited.owner(root, uses)
        if owner is not None:
            constant = make_constant(root.name, new)
            owner.replaced.append(constant)
            edited.read(uses, constant)
            continue
        homes = {id(use.node.graph): use.node.graph for use in uses}
        for home in homes.values():
            constant = make_constant(edited.names.fresh(f"{layer.nodes[0].title}/{what}"), new)
            edited.read((use for use in uses if use.node.graph is home), constant)
    flaws = [flaw_of(v.name, values) for v, values in zip(layer.statistics, old, strict=True)]
    mended = tuple(str(flaw) for flaw in flaws if flaw is not None)
    return _told(layer, old, statistics, is_frozen=is_frozen, mended=mended)


class Edited:
    """A model whose nodes get other constants.

    Parameters
    ----------
    model : Model
    network : Network
        Of that model.

    Attributes
    ----------
    names : Names
    surgeon : dict of int to Node
        onnx-graphsurgeon's nodes, by key.
    """

    def __init__(self, model: Model, network: Network) -> None:
        self.names = Names(model)
        self.surgeon = dict(enumerate(gs_nodes(model)))
        self._graphs = dict(zip(map(id, network.graphs), all_graphs(model), strict=True))

    def read(self, uses: Iterable[Use], constant: gs.Constant) -> None:
        """Let nodes read a constant."""
        for node, slot in uses:
            self.surgeon[node.key].inputs[slot] = constant

    def owner(self, root: Value, uses: set[Use]) -> ImportedGraph | None:
        """Return the graph of which a tensor is an initializer, if only these uses read it."""
        if root.producer is not None or root.is_output or set(root.readers.values()) != uses:
            return None
        home: Graph | None = next(iter(uses)).node.graph
        while home is not None:
            graph = self._graphs[id(home)]
            if isinstance(graph, ImportedGraph) and root.name in graph.stored:
                return graph
            home = home.parent
        return None


def _told(
    layer: Layer,
    old: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    new: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    *,
    is_frozen: bool,
    mended: tuple[str, ...],
) -> Recalibrated:
    """Say how far the statistics of a layer moved."""
    known = np.isfinite(old[0]) & np.isfinite(old[1])
    old_mean, old_var, mean, var = (values[known] for values in (*old, *new))
    with np.errstate(all="ignore"):
        shift = (mean - old_mean) / np.sqrt(old_var + layer.epsilon)
        ratio = (var + layer.epsilon) / (old_var + layer.epsilon)
    first, *others = (replace(site_of(node), channels=len(known)) for node in layer.nodes)
    return Recalibrated(
        first,
        float(np.sqrt(np.mean(shift**2))) if known.any() else math.nan,
        float(np.exp(np.mean(np.log(ratio)))) if known.any() else math.nan,
        is_frozen,
        mended,
        tuple(others),
    )

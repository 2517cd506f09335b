"""New running statistics for BatchNormalization: of which layers, and how they are put in place.

Every layer gets one new mean and one new variance (:mod:`normswap.groupnorm.estimate`), which all
its nodes go on sharing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from normswap.dtypes import is_float, round_to
from normswap.errors import ModelError, UsageError
from normswap.finite import flaw_of
from normswap.graph.batchnorm import (
    EXPORT_TIP,
    is_batchnorm,
    require_rewritable,
    require_samples,
)
from normswap.graph.build import all_graphs, gs_nodes
from normswap.graph.evaluate import constant_source
from normswap.graph.names import Names
from normswap.graph.network import Use
from normswap.graph.normalization import site_of
from normswap.graph.reasons import Blocked, Reason, blocked_by
from normswap.groupnorm.plan import Untouched
from normswap.groupnorm.selection import Selection
from normswap.groupnorm.statistics import (
    FoundLayers,
    SharedStatistics,
    are_trivial,
    behind_identities,
    calls_of,
    constant_places,
    places_of,
)
from normswap.model import ArrayTensor, make_constant
from normswap.model.imported import ImportedGraph

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt
    import onnx_graphsurgeon as gs

    from normswap.graph.network import Graph, Network, Node, Value
    from normswap.graph.normalization import Site
    from normswap.groupnorm.statistics import Calls
    from normswap.model import Model

LISTED = 8
"""Layers that an error message names."""

ASSUME = (
    "--assume-constant (assume_constant=True) treats initializers that are also graph inputs as "
    "constants, which is right if no caller passes other values."
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
                tip="It is the weight of the old statistics; PyTorch's momentum is 1 minus that.",
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


def find_layers(model: Model, network: Network, options: RecalibrateOptions) -> FoundLayers:
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
    calls = calls_of(model, network)
    layers: dict[tuple[int, ...], SharedStatistics] = {}
    kept: list[Untouched] = []
    for node in nodes:
        block = blocked_by(_require_recalibratable, node, calls, options)
        if block is not None:
            kept.append(Untouched(site_of(node), block.reason, block.detail))
            continue
        for mean, var in places_of(Use(node, 3), Use(node, 4), calls):
            pair = mean.node.operand(mean.slot), var.node.operand(var.slot)
            affine = node.inputs[1:3]
            read = [*pair, *affine] if are_trivial(*pair) else pair
            behind = [*map(behind_identities, pair), *affine]
            keys = tuple(map(id, read)), tuple(map(id, behind))
            layer = layers.get(keys[0]) or layers.get(keys[1]) or SharedStatistics([], pair)
            layers.update(dict.fromkeys(keys, layer))
            layer.places.append((mean, var))
            if node not in layer.nodes:
                layer.nodes.append(node)
    if not layers:
        refuse(model, kept)
    return FoundLayers(list(dict.fromkeys(layers.values())), kept)


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
    count = len(kept)
    which = "The BatchNormalization" if count == 1 else f"All {count} BatchNormalizations"
    raise ModelError(
        f"{which} of {model.name} can't be recalibrated: {listed}{more}.",
        tip=ASSUME if inputs else None,
    )


def _require_recalibratable(node: Node, calls: Calls, options: RecalibrateOptions) -> None:
    """Let pass a normalization of samples whose mean and variance are constants by channel."""
    options.selection.require(node)
    require_rewritable(node, in_training=True, with_statistics=not options.freeze, by_channel=True)
    channels = None
    for use in (use for pair in constant_places(node, calls) for use in pair):
        source = constant_source(use.node.operand(use.slot))
        if not is_float(source.data_type):
            raise Blocked(
                Reason.ELEMENT_TYPE, node.title, "its mean and variance are not of a float type"
            )
        channels = math.prod(source.shape)
    require_samples(node, channels)


def install(
    layer: SharedStatistics,
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
    layer: SharedStatistics,
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

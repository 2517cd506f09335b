"""Training-mode exports made inference models, with the running statistics that they have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from normswap.finite import flaw_of
from normswap.graph.batchnorm import (
    epsilon_of,
    is_batchnorm,
    is_per_activation,
    require_rewritable,
    require_samples,
)
from normswap.graph.build import build_network
from normswap.graph.evaluate import constant_source
from normswap.graph.mode import may_drop, mode_of
from normswap.graph.network import Use
from normswap.graph.normalization import site_of
from normswap.graph.reasons import Blocked, Reason, blocked_by
from normswap.groupnorm.plan import Untouched
from normswap.groupnorm.recalibrate import Recalibrated
from normswap.groupnorm.statistics import (
    FoundLayers,
    SharedStatistics,
    calls_of,
    constant_places,
    places_of,
)
from normswap.model import load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx_graphsurgeon as gs

    from normswap.graph.network import Network, Node
    from normswap.groupnorm.recalibrate import RecalibrateOptions
    from normswap.groupnorm.statistics import Calls
    from normswap.model import Model


def find_frozen(model: Model, network: Network, options: RecalibrateOptions) -> FoundLayers:
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
    FoundLayers
        Of one node each.
    """
    nodes = [node for graph in network.graphs for node in graph.topological() if is_batchnorm(node)]
    options.selection.require_use(nodes, model.name)
    calls = calls_of(model, network)
    found = FoundLayers([], [])
    for node in nodes:
        if not mode_of(node).is_training:
            continue
        block = blocked_by(_require_freezable, node, calls, options)
        if block is not None:
            found.kept.append(Untouched(site_of(node), block.reason, block.detail))
        else:
            places = places_of(Use(node, 3), Use(node, 4), calls)
            mean, var = (use.node.operand(use.slot) for use in places[0])
            found.layers.append(SharedStatistics([node], (mean, var), places))
    return found


def _require_freezable(node: Node, calls: Calls, options: RecalibrateOptions) -> None:
    """Let pass a normalization of samples that has statistics of its own to normalize by."""
    options.selection.require(node)
    require_rewritable(node, in_training=True)
    channels = None
    for mean, var in constant_places(node, calls):
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


def find_dropouts(network: Network) -> list[str]:
    """Return the titles of Dropouts that make a model no inference model, frozen or not."""
    nodes = (node for node in network.nodes() if node.op == "Dropout" and not node.domain)
    return [node.title for node in nodes if may_drop(node)]


def put_in_inference(nodes: Sequence[Node], surgeon: Mapping[int, gs.Node]) -> bool:
    """Put nodes in inference mode; return whether any was in training mode."""
    training = [mode_of(node).is_training for node in nodes]
    for node in nodes:
        gs_node = surgeon[node.key]
        gs_node.attrs.pop("training_mode", None)
        if node.opset < 7:
            gs_node.attrs["is_test"] = 1
        while len(gs_node.outputs) > 1:
            gs_node.outputs.pop()
    return any(training)


def frozen(layer: SharedStatistics) -> Recalibrated:
    """Say that a layer is in inference mode now, with the statistics that it had."""
    return Recalibrated(site_of(layer.nodes[0]), 0.0, 1.0, frozen=True)


def require_frozen(path: Path, layers: Sequence[SharedStatistics]) -> None:
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
    calls = calls_of(model, network)
    nodes = {
        (node.graph.path, node.out.name): node for node in network.nodes() if is_batchnorm(node)
    }
    for layer in layers:
        (before,) = layer.nodes
        node = nodes[before.graph.path, before.out.name]
        if mode_of(node).is_training or len(node.outputs) > 1:
            raise AssertionError(f"{node.title} is not in inference mode")
        places = places_of(Use(node, 3), Use(node, 4), calls)
        if _bits(places) != _bits(layer.places):
            raise AssertionError(f"{node.title} has other statistics")


def _bits(places: Sequence[tuple[Use, Use]]) -> list[bytes]:
    """Return the bytes of statistics."""
    values = [use.node.operand(use.slot) for pair in places for use in pair]
    return [constant_source(value).load().tobytes() for value in values]

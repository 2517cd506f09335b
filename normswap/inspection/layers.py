"""The normalizations of a model as a table: each with its place, its kind, and what a fold says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from normswap.folding.plan import Folded, Kept
from normswap.graph.batchnorm import is_batchnorm
from normswap.graph.evaluate import integers_of
from normswap.graph.mode import mode_of
from normswap.graph.normalization import normalizations
from normswap.graph.reasons import Reason
from normswap.inspection.health import Health, health_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.folding.plan import Plan
    from normswap.graph.network import Graph, Network, Node, Value

EPSILON: dict[str, float | None] = {
    "BatchNormalization": 1e-5,
    "GroupNorm": 1e-5,
    "GroupNormalization": 1e-5,
    "InstanceNormalization": 1e-5,
    "LRN": None,
    "LayerNormalization": 1e-5,
    "LpNormalization": None,
    "MeanVarianceNormalization": None,
    "RMSNormalization": 1e-5,
    "SimplifiedLayerNormalization": 1e-5,
    "SkipGroupNorm": 1e-5,
    "SkipLayerNormalization": 1e-12,
    "SkipSimplifiedLayerNormalization": 1e-12,
}
"""The operators that normalize, and their default epsilon; None where they have none.

Source: ONNX operators of these names; onnxruntime's contrib operators.
"""


@dataclass(frozen=True, slots=True)
class InspectedLayer:
    """A normalization of a model.

    Attributes
    ----------
    node, op, output, graph : str
        What it is called, its operator (``Mul+Add`` where it is written as arithmetic), the tensor
        that it makes, and where it is, see :class:`normswap.graph.network.Graph`.
    channels, groups : int or None
        None where they are not known, or there are none.
    epsilon : float or None
        None where the operator has none.
    mode : {"inference", "training", ""}
        Of a BatchNormalization; empty for what has no modes.
    fed_by : str
        The operator or input that makes what it normalizes.
    read_by : tuple of str
        The operators that read what it makes, and ``output`` where that is one of the model's.
    fold : {"foldable", "kept", ""}
        What a fold would do; empty where a fold is not about it.
    reason : Reason or None
        Why it would be kept.
    because : str
        The same in words; of one that folds the operators that take it in.
    health : Health or None
        Of a BatchNormalization whose parameters are constants.
    """

    node: str
    op: str
    output: str
    graph: str
    channels: int | None
    groups: int | None
    epsilon: float | None
    mode: Literal["inference", "training", ""]
    fed_by: str
    read_by: tuple[str, ...]
    fold: Literal["foldable", "kept", ""] = ""
    reason: Reason | None = None
    because: str = ""
    health: Health | None = None


def norm_layers(network: Network, plan: Plan) -> Iterator[InspectedLayer]:
    """Yield the normalizations of a model, graph by graph in the order of the nodes.

    Parameters
    ----------
    plan : Plan
        Of a fold of the same model. Of what is written as arithmetic it says what counts.
    """
    every: tuple[Folded | Kept, ...] = (*plan.folded, *plan.kept)
    entries = {(entry.site.graph, entry.site.output): entry for entry in every}
    own = {(n.graph.path, n.out.name) for n in network.nodes() if is_batchnorm(n)}
    called = [entry for entry in every if (entry.site.graph, entry.site.output) not in own]
    for graph in network.graphs:
        written = {n.key: n for n in normalizations(graph) if not n.is_batchnorm}
        for node in graph.nodes:
            made = next((value.name for value in node.outputs if value), None)
            entry = entries.get((graph.path, made or ""))
            if made is None:
                continue
            if node.op in EPSILON and node.domain in {"", "com.microsoft"}:
                calls = [e for e in called if ":" in graph.path and _is_call_of(node, e)]
                for call in calls:  # a fold puts a function in the place of a call
                    called.remove(call)
                    layer = _layer(node, node.op, node.input(0), graph, call)
                    at = call.site
                    yield replace(layer, node=at.node, output=at.output, graph=at.graph)
                if entry is not None or not calls:
                    yield _layer(node, node.op, node.input(0), graph, entry)
            elif node.key in written and entry is not None:
                whole = written[node.key]
                source = whole.source.node.inputs[whole.source.slot]
                yield _layer(node, whole.site().op, source, graph, entry)


def _is_call_of(node: Node, entry: Folded | Kept) -> bool:
    """Whether what a fold has planned is for a node of a function, in the place of a call."""
    return bool(node.name) and entry.site.node.endswith(f"/{node.name}")


def _layer(
    node: Node, op: str, source: Value | None, graph: Graph, entry: Folded | Kept | None
) -> InspectedLayer:
    batchnorm = is_batchnorm(node)
    fold, reason, because = _fate(node, entry)
    return InspectedLayer(
        node=node.title,
        op=op,
        output=node.out.name,
        graph=graph.path,
        channels=_channels(node, source, entry),
        groups=_groups(node),
        epsilon=_epsilon(node),
        mode="" if not batchnorm else "training" if mode_of(node).is_training else "inference",
        fed_by=_maker(source),
        read_by=_readers(node),
        fold=fold,
        reason=reason,
        because=because,
        health=health_of(node) if batchnorm and len(node.inputs) >= 5 else None,
    )


def _fate(
    node: Node, entry: Folded | Kept | None
) -> tuple[Literal["foldable", "kept", ""], Reason | None, str]:
    match entry:
        case Folded():
            into = ", ".join(f"{step.op} {step.node}" for step in entry.absorbers)
            return "foldable", None, into
        case Kept():
            return "kept", entry.reason, entry.detail or entry.reason.explanation
        case _ if is_batchnorm(node):  # whose result a fold takes for what it is
            return "kept", Reason.CONSTANT, Reason.CONSTANT.explanation
        case _:
            return "", None, ""


def _epsilon(node: Node) -> float | None:
    default = EPSILON.get(node.op)
    # A float32, told with the digits that it has.
    return None if default is None else float(str(np.float32(node.attr("epsilon", default))))


def _channels(node: Node, source: Value | None, entry: Folded | Kept | None) -> int | None:
    if entry is not None and entry.site.channels is not None:
        return entry.site.channels
    last = "Layer" in node.op or node.op.startswith(("RMS", "SkipS")) or node.op == "GroupNorm"
    shape = None if source is None else source.shape
    sizes = [] if shape is None or len(shape) < 2 else [shape[-1 if last else 1]]
    scale = node.input(2 if node.op.startswith("Skip") else 1)
    by_group = node.op == "GroupNormalization" and node.opset < 21
    if scale is not None and scale.rank == 1 and scale.shape and not by_group:
        sizes.append(scale.shape[0])
    return next((size for size in sizes if isinstance(size, int)), None)


def _groups(node: Node) -> int | None:
    """Return the number of groups; an InstanceNormalization of a (N, G, -1) has G of them."""
    if node.op == "InstanceNormalization":
        value = node.input(0)
        maker = None if value is None else value.producer
        sizes = integers_of(maker.input(1)) if maker and maker.op == "Reshape" else None
        return sizes[1] if sizes is not None and len(sizes) == 3 and sizes[1] > 0 else None
    groups = node.attr("num_groups", node.attr("groups", None))
    return int(groups) if isinstance(groups, int) else None


def _maker(value: Value | None) -> str:
    if value is None:
        return ""
    if value.producer is not None:
        return f"{value.producer.op} {value.producer.title}"
    return f"constant {value.name}" if value.source is not None else f"input {value.name}"


def _readers(node: Node) -> tuple[str, ...]:
    value = node.out
    found = [f"{use.node.op} {use.node.title}" for use in value.readers.values()]
    return (*dict.fromkeys(found), *["output"] * value.is_output)

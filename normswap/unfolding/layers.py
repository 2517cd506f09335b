"""The linear layers of a network: operators with a constant weight, each with its bias."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.dtypes import is_float
from normswap.graph.evaluate import constant_source
from normswap.graph.network import Use
from normswap.graph.reasons import unless_blocked
from normswap.graph.removal import may_grow
from normswap.groupnorm.selection import names_of
from normswap.groupnorm.statistics import calls_of, places_of
from normswap.semantics.families import LINEAR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.graph.network import Network, Node, Value
    from normswap.model import Model, TensorSource


@dataclass(frozen=True, slots=True, eq=False)
class LinearLayer:
    """A linear layer.

    Attributes
    ----------
    node : Node
    output : Value
        What it makes, with the bias that an Add behind it adds.
    channels : int
        How many it makes.
    data_type : int
        A float type.
    """

    node: Node
    output: Value
    channels: int
    data_type: int

    @property
    def names(self) -> list[str]:
        """Names of its nodes and tensors, by which a person may mean it."""
        last = self.output.producer
        return names_of(self.node) + ([] if last is None else names_of(last))

    @property
    def has_bias(self) -> bool:
        """Whether it adds one, by itself or by an Add behind it."""
        return self.node.input(2) is not None or self.output.producer is not self.node

    @property
    def is_channels_last(self) -> bool:
        """Whether the channels are the last of more than two axes, or that is not known."""
        return self.node.op == "MatMul" and self.output.rank != 2


class HandedConstants:
    """What is constant in a network, also where a function is handed it.

    Parameters
    ----------
    model : Model
    network : Network
        Of that model.
    """

    def __init__(self, model: Model, network: Network) -> None:
        self._calls = calls_of(model, network)

    def read(self, use: Use) -> TensorSource | None:
        """Return the constant that a node reads, also one that a caller may replace; else None.

        A function that is handed several, of one shape, reads the first.
        """
        found = [self._source(place) for place, _ in places_of(use, use, self._calls)]
        shapes = {None if source is None else tuple(source.shape) for source in found}
        return found[0] if len(shapes) == 1 else None

    @staticmethod
    def _source(use: Use) -> TensorSource | None:
        value = use.node.input(use.slot)
        if value is None:
            return None
        found = unless_blocked(constant_source, value)
        return value.source if found is None and value.overridable else found


def find_layers(network: Network, constants: HandedConstants) -> dict[int, LinearLayer]:
    """Return the linear layers of all graphs by the keys of their nodes, graph by graph."""
    nodes = (node for graph in network.graphs for node in graph.topological())
    found = ((node.key, _layer_of(node, constants)) for node in nodes)
    return {key: layer for key, layer in found if layer is not None}


def _layer_of(node: Node, constants: HandedConstants) -> LinearLayer | None:
    """Return the linear layer that a node is; None if it is none."""
    if node.domain or node.op not in LINEAR or node.input(0) is None:
        return None
    weight = constants.read(Use(node, 1))
    if weight is None or constants.read(Use(node, 0)) is not None:
        return None
    channels = _channels(node, weight.shape)
    if channels is None or not is_float(weight.data_type):
        return None
    return LinearLayer(node, _with_bias(node.out, channels, constants), channels, weight.data_type)


def _channels(node: Node, sizes: Sequence[int]) -> int | None:
    if node.op == "Conv" and len(sizes) > 2:
        return sizes[0]
    if node.op == "ConvTranspose" and len(sizes) > 2:
        return sizes[1] * int(node.attr("group", 1))
    if node.op == "Gemm" and len(sizes) == 2:
        return sizes[0 if node.attr("transB", 0) else 1]
    if node.op == "MatMul" and len(sizes) == 2:
        return sizes[1]
    return None


def _with_bias(output: Value, channels: int, constants: HandedConstants) -> Value:
    """Return what an Add of a bias makes of a layer's output; itself where there is none."""
    if not output.is_private:
        return output
    (use,) = output.readers.values()
    if use.node.op != "Add" or use.node.domain or use.node.graph is not output.graph:
        return output
    source = constants.read(Use(use.node, 1 - use.slot))
    if source is None or may_grow(output, source.shape):
        return output
    return use.node.out if math.prod(source.shape) in (1, channels) else output

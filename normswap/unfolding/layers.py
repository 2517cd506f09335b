"""The linear layers of a network: operators with a constant weight, each with its bias."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.dtypes import is_float
from normswap.graph.evaluate import constant_source
from normswap.graph.reasons import unless_blocked
from normswap.graph.removal import may_grow
from normswap.groupnorm.selection import names_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.graph.network import Network, Node, Value
    from normswap.model import TensorSource

LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
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


def find_layers(network: Network) -> list[Layer]:
    """Return the linear layers of all graphs, in the order of each graph."""
    nodes = (node for graph in network.graphs for node in graph.topological())
    found = (layer_of(node) for node in nodes)
    return [layer for layer in found if layer is not None]


def layer_of(node: Node) -> Layer | None:
    """Return the linear layer that a node is; None if it is none."""
    if node.domain or node.op not in LINEAR:
        return None
    x, weight = node.input(0), node.input(1)
    source = None if weight is None else fixed(weight)
    if x is None or source is None or fixed(x) is not None:
        return None
    channels = _channels(node, source.shape)
    if channels is None or not is_float(source.data_type):
        return None
    return Layer(node, _with_bias(node.out, channels), channels, source.data_type)


def fixed(value: Value) -> TensorSource | None:
    """Return the values of a constant, also of one that a caller may replace; else None."""
    found = unless_blocked(constant_source, value)
    return value.source if found is None and value.overridable else found


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


def _with_bias(output: Value, channels: int) -> Value:
    """Return what an Add of a bias makes of a layer's output; itself where there is none."""
    if not output.is_private:
        return output
    (use,) = output.readers.values()
    if use.node.op != "Add" or use.node.domain or use.node.graph is not output.graph:
        return output
    bias = use.node.input(1 - use.slot)
    source = None if bias is None else fixed(bias)
    if source is None or may_grow(output, source.shape):
        return output
    return use.node.out if math.prod(source.shape) in (1, channels) else output

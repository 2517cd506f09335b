"""A model that is looked at: what can be asked of it, each worked out once, when it is asked."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from normswap.folding.planner import make_plan
from normswap.graph.batchnorm import makes_constant, require_samples
from normswap.graph.build import build_network
from normswap.graph.mode import may_drop, mode_of
from normswap.graph.reasons import blocked_by
from normswap.inspection.layers import InspectedLayer, norm_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.folding.plan import Plan
    from normswap.graph.network import Network, Node
    from normswap.inspection.health import Health
    from normswap.model import Model


class Subject:
    """A model, and what is known of it.

    Parameters
    ----------
    model : Model
        Is not changed.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    @cached_property
    def network(self) -> Network:
        """Its graphs, as they are in the file."""
        return build_network(self.model)

    @cached_property
    def plan(self) -> Plan:
        """What a fold would do."""
        return make_plan(self.model)

    @cached_property
    def layers(self) -> tuple[InspectedLayer, ...]:
        """Its normalizations."""
        return tuple(norm_layers(self.network, self.plan))

    @property
    def health(self) -> Iterator[tuple[InspectedLayer, Health]]:
        """The BatchNormalizations whose numbers are constants, and how these look."""
        return ((layer, layer.health) for layer in self.layers if layer.health is not None)

    @cached_property
    def training(self) -> tuple[Node, ...]:
        """The BatchNormalizations and Dropouts that an inference model has in training mode."""
        return tuple(node for node in self.network.nodes() if _trains(node))


def _trains(node: Node) -> bool:
    if node.domain or node.op not in {"BatchNormalization", "Dropout"}:
        return False
    if node.op == "Dropout":
        return may_drop(node)
    if not mode_of(node).is_training or makes_constant(node):
        return False
    # One with the samples in its channels is how an instance normalization may be written.
    scale = node.input(1)
    channels = scale.shape[0] if scale is not None and scale.shape else None
    known = channels if isinstance(channels, int) else None
    return blocked_by(require_samples, node, known) is None

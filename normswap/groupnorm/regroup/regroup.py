"""A network with its channels in an order that is good for groups, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from normswap.graph.batchnorm import epsilon_of, require_rewritable
from normswap.graph.evaluate import constant_of
from normswap.graph.reasons import Blocked, Reason
from normswap.groupnorm.planner import network_of
from normswap.groupnorm.regroup.exchange import Grouped, cost_of, exchanged
from normswap.groupnorm.regroup.implied import implied
from normswap.groupnorm.regroup.measured import measured
from normswap.groupnorm.statistics import calls_of
from normswap.permuting.permute import permute
from normswap.permuting.spaces import find_spaces, gathered
from normswap.plain import AsDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from normswap.graph.network import Node, Value
    from normswap.graph.normalization import Site
    from normswap.groupnorm.plan import Swap, SwapPlan
    from normswap.model import Model
    from normswap.permuting.spaces import Spaces
    from normswap.progress import Progress
    from normswap.proof.reordered import Reordered

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Regrouped:
    """A layer whose groups were to be chosen.

    Attributes
    ----------
    site : Site
    moved : int
        How many of its channels are in another group than before.
    by : {"data", "weights", ""}
        What its channels were compared by; empty where they were not.
    before, after : float
        The cost of its groups: by data, the sum over groups of ``E[m^2] + E[(v - 1)^2] / 4``; by
        weights, something like the first term, without a scale. 0 where it is not known.
    reason : Reason or None
        Why some or all of its channels stay, or don't count; None where nothing hinders them.
    detail : str
        The same in words.
    """

    site: Site
    moved: int
    by: Literal["data", "weights", ""] = ""
    before: float = 0.0
    after: float = 0.0
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Regrouping(AsDict):
    """What was done for the groups of all layers.

    Attributes
    ----------
    layers : tuple of Regrouped
        In the order of the graph.
    spaces : int
        How many sets of channels could be permuted, each by itself.
    orders : tuple of Reordered
        The tensors that are in another order now, for the proof.
    """

    layers: tuple[Regrouped, ...]
    spaces: int
    orders: tuple[Reordered, ...] = field(default=(), repr=False)

    @property
    def moved(self) -> int:
        """How many layers have channels in other groups."""
        return sum(layer.moved > 0 for layer in self.layers)


def regroup(
    model: Model,
    plan: SwapPlan,
    original: Path,
    batches: Iterable[Mapping[str, Any]] | None,
    progress: Progress,
) -> Regrouping:
    """Permute the channels of a model so that those share a group that hold still together.

    The network stays the same function. To plan on, write it and read it again.

    Parameters
    ----------
    model : Model
        Is changed; not edited since it was read.
    plan : SwapPlan
        Of its swap, which says how many groups each layer has.
    original : Path
        Where the model is.
    batches : iterable of feeds, optional
        Data by which channels are compared; without, it is done by weights.
    progress : callable

    Raises
    ------
    RunError
        The runtime can't run the model on the data.
    """
    network = network_of(model)
    nodes = {node.key: node for node in network.nodes()}
    tensors = {swap.key: nodes[swap.key].operand(0) for swap in plan.swaps}
    spaces = find_spaces(network, calls_of(model, network), tensors.values())
    choices = {s.key: _Choice(s, nodes[s.key], tensors[s.key], spaces) for s in plan.swaps}
    if batches is not None:
        shown = {
            key: (choice.swap.alone, *choice.statistics)
            for key, choice in choices.items()
            if choice.statistics is not None and not choice.swap.site.graph
        }
        for key, products in measured(original, shown, batches, progress).items():
            choices[key].take(products, "data")
    for choice in choices.values():
        choice.complete()
    layers = [choice.grouped for choice in choices.values() if choice.grouped is not None]
    orders = exchanged(spaces.spaces, layers)
    moved = spaces.reordered(orders)
    told = tuple(choice.told(moved) for choice in choices.values())
    return Regrouping(told, len(spaces.spaces), tuple(permute(model, spaces, orders)))


class _Choice:
    """A layer, and what its channels are compared by."""

    def __init__(self, swap: Swap, node: Node, value: Value, spaces: Spaces) -> None:
        self.swap = swap
        self.grouped: Grouped | None = None
        self.statistics: tuple[Floats, Floats] | None = None
        self._value = value
        self._channels = spaces.channels(value)
        self._by: Literal["data", "weights", ""] = ""
        self._reason: Reason | None = None
        self._detail = ""
        try:
            self._look(node, spaces)
        except Blocked as refusal:
            self._reason, self._detail = refusal.block.reason, refusal.block.detail

    def _look(self, node: Node, spaces: Spaces) -> None:
        """Find what there is to choose, and how the tensor is normalized.

        Raises
        ------
        Blocked
            If there is nothing, or it is not known.
        """
        if self.swap.num_groups in (1, self.swap.alone.channels):
            self._detail = "there is nothing to choose with one group, or with one per channel"
            return
        if self._channels is None:
            detail = f"the number of channels of {self._value.name} is not known"
            raise Blocked(Reason.SHAPE_UNKNOWN, node.title, detail)
        blocks = [spaces.blocks[ids] for ids in self._channels.tolist() if ids in spaces.blocks]
        if blocks:
            self._reason, self._detail = blocks[0].reason, blocks[0].detail
        if len(blocks) == len(self._channels):
            return
        if len(np.unique(self._channels)) < len(self._channels):
            raise Blocked(Reason.ORDER, node.title, "it has the same channel several times")
        require_rewritable(node)
        mean, var = (constant_of(node.input(slot)).load().astype(np.float64) for slot in (3, 4))
        self.statistics = mean, np.sqrt(var + epsilon_of(node))

    def take(self, products: Floats, by: Literal["data", "weights"]) -> None:
        """Compare the channels by these products."""
        if self._channels is not None and np.isfinite(products).all():
            self.grouped = Grouped(self._channels, products, self.swap.num_groups)
            self._by = by

    def complete(self) -> None:
        """Compare the channels by weights, if no data has told of them."""
        if self.statistics is None or self.grouped is not None:
            return
        try:
            self.take(implied(self._value), "weights")
        except Blocked as refusal:
            self._reason, self._detail = refusal.block.reason, refusal.block.detail

    def told(self, moved: npt.NDArray[np.int64]) -> Regrouped:
        """Return what is told, with the channel that takes the place of each."""
        site = self.swap.site
        if self._channels is None or self.swap.num_groups in (1, self.swap.alone.channels):
            return Regrouped(site, 0, reason=self._reason, detail=self._detail)
        places = gathered(self._channels, moved)
        size = len(places) // self.swap.num_groups
        count = int((places // size != np.arange(len(places)) // size).sum())
        costs = (0.0, 0.0)
        if self.grouped is not None:
            costs = cost_of(self.grouped), cost_of(self.grouped, places)
        return Regrouped(site, count, self._by, *costs, self._reason, self._detail)

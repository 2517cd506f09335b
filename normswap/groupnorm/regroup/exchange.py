"""The search for groups: pairs of channels change places as long as that lowers the cost.

Of a layer, the cost of a group is the mean over samples of the square of the sum of what its
channels have, each a vector of features, divided by their number: ``|sum f_i|^2 / k^2``. Channels
whose features cancel each other belong together. Only products ``K_ij = f_i . f_j`` are needed, and
an exchange of ``a`` in group A with ``b`` in group B changes the cost by::

    2 (S_bA - S_aA + S_aB - S_bB + K_aa + K_bb - 2 K_ab) / k^2,     S_iG = sum of K_ij over j in G

summed over the layers that have both. Each channel in turn takes the best partner; no random
numbers are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from normswap.permuting.labels import Ids

    Floats = npt.NDArray[np.float64]

_SWEEPS = 40
_LEAST = 1e-9  # parts of the cost that an exchange must gain


@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """A layer whose channels are in groups.

    Attributes
    ----------
    channels : (C,) ndarray of int
        The number of the channel at each place; none is there twice.
    products : (C, C) ndarray
        K.
    num_groups : int
    """

    channels: Ids
    products: Floats
    num_groups: int


def exchanged(spaces: Sequence[Ids], layers: Sequence[Grouped]) -> dict[int, Ids]:
    """Return a better order for each space, where there is one.

    Parameters
    ----------
    spaces : sequence of (n,) ndarray of int
        The channels of each, by their numbers.
    layers : sequence of Grouped

    Returns
    -------
    dict of int to (n,) ndarray of int
        By place of the space: which of its channels comes first, and so on.
    """
    states = [_State(layer) for layer in layers]
    orders = [np.arange(len(space)) for space in spaces]
    views = [[view for state in states if (view := state.of(space))] for space in spaces]
    least = _LEAST * sum(cost_of(layer) for layer in layers)
    for _ in range(_SWEEPS):
        gained = 0.0
        for order, own in zip(orders, views, strict=True):
            if own:
                gained += _sweep(order, own, least)
        if gained <= least:
            break
    return {
        number: order
        for number, order in enumerate(orders)
        if (order != np.arange(len(order))).any()
    }


def cost_of(layer: Grouped, places: Ids | None = None) -> float:
    """Return what the groups of a layer cost.

    Parameters
    ----------
    layer : Grouped
    places : (C,) ndarray of int, optional
        Which of its channels is at each place, if not its own.
    """
    places = np.arange(len(layer.channels)) if places is None else places
    groups = places.reshape(layer.num_groups, -1)
    products = layer.products[groups[:, :, np.newaxis], groups[:, np.newaxis]]
    return float(products.sum()) / groups.shape[1] ** 2


class _State:
    """A layer while its channels change places."""

    def __init__(self, layer: Grouped) -> None:
        self.layer = layer
        self.size = len(layer.channels) // layer.num_groups
        blocks = layer.products.reshape(len(layer.channels), layer.num_groups, self.size)
        self.sums: Floats = blocks.sum(axis=2)  # (C, groups)

    def of(self, space: Ids) -> _View | None:
        """Return where the channels of a space are, None where they are not."""
        places = np.argsort(self.layer.channels)
        found = np.searchsorted(self.layer.channels, space, sorter=places)
        rows = places[np.minimum(found, len(places) - 1)]
        if (self.layer.channels[rows] != space).any() or 1 in (self.size, self.layer.num_groups):
            return None
        return _View(self, rows)


class _View:
    """The channels of a space in a layer.

    Parameters
    ----------
    state : _State
    rows : (n,) ndarray of int
        The place of each in the layer, at first.
    """

    def __init__(self, state: _State, rows: Ids) -> None:
        self.state = state
        self.rows = rows
        self.groups = rows // state.size

    def gains(self, place: int, order: Ids) -> Floats:
        """Return by how much the cost grows if a channel changes places with each other one."""
        products, sums = self.state.layer.products, self.state.sums
        own, others = self.rows[order[place]], self.rows[order]
        a, b = self.groups[place], self.groups
        diagonal = products.diagonal()[others]
        grown = sums[others, a] - sums[own, a] + sums[own, b] - sums[others, b]
        grown += products[own, own] + diagonal - 2 * products[own, others]
        grown[b == a] = 0.0
        found: Floats = 2 * grown / self.state.size**2
        return found

    def exchange(self, place: int, other: int, order: Ids) -> None:
        """Take two channels, that are in `order` still as they were, into each other's group."""
        a, b = self.groups[place], self.groups[other]
        if a != b:
            products, sums = self.state.layer.products, self.state.sums
            change = products[:, self.rows[order[other]]] - products[:, self.rows[order[place]]]
            sums[:, a] += change
            sums[:, b] -= change


def _sweep(order: Ids, views: Sequence[_View], least: float) -> float:
    """Let each channel take the best partner; return what that has gained."""
    gained = 0.0
    for place in range(len(order)):
        grown = sum((view.gains(place, order) for view in views), np.zeros(len(order)))
        other = int(grown.argmin())
        if grown[other] < -least / len(order):
            for view in views:
                view.exchange(place, other, order)
            order[[place, other]] = order[[other, place]]
            gained -= float(grown[other])
    return gained

"""What may be exchanged: sets of channels of a network, with all the tensors that have them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from normswap.graph.reasons import Block, Reason, unless_blocked
from normswap.permuting.axes import Axes
from normswap.permuting.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from normswap.graph.network import Network, Node, Value
    from normswap.permuting.axes import Held
    from normswap.permuting.labels import Ids


@dataclass(frozen=True, slots=True, eq=False)
class Spaces:
    """All sets of channels that may be put in another order, each set by itself.

    Attributes
    ----------
    spaces : tuple of (C,) ndarray of int
        The channels of each, by their numbers, in their present order.
    axes : tuple of Held
        Where they are; :attr:`Held.labels` are numbers of channels.
    blocks : mapping of int to Block
        By number: what keeps a channel at its place.
    """

    spaces: tuple[Ids, ...]
    axes: tuple[Held, ...]
    blocks: Mapping[int, Block]
    _numbers: Mapping[tuple[int, int], Ids] = field(repr=False)

    def channels(self, value: Value, axis: int = 1) -> Ids | None:
        """Return the numbers of the channels of a tensor, None if it was not asked about."""
        return self._numbers.get((id(value), axis))

    def reordered(self, orders: Mapping[int, npt.NDArray[np.integer]]) -> Ids:
        """Return by its number which channel takes the place of each.

        Parameters
        ----------
        orders : mapping of int to (C,) ndarray of int
            A permutation of ``range(C)`` for some spaces, by their place in :attr:`spaces`: the
            first channel is then what was that of the first element, and so on.
        """
        most = max((int(held.labels.max()) for held in self.axes), default=-1)
        moved = np.arange(most + 1)
        for space, order in orders.items():
            if sorted(order) != list(range(len(self.spaces[space]))):
                raise ValueError(f"the order that space {space} is given is not a permutation")
            moved[self.spaces[space]] = self.spaces[space][order]
        return moved


def find_spaces(
    network: Network, calls: Mapping[int, Sequence[Node]], tensors: Iterable[Value]
) -> Spaces:
    """Find what may be exchanged of the channels (axis 1) of some tensors.

    Parameters
    ----------
    network : Network
    calls : mapping of int to sequence of Node
        The nodes that call a function, by the id of its body.
    tensors : iterable of Value
        Those whose channels can't be counted are left out.
    """
    axes = Axes()
    for value in tensors:
        unless_blocked(axes.get, value, 1)
    Walk(axes, network, calls).run()
    for held in axes.held.values():
        if held.labels.ndim == 1:
            axes.labels.fence(held.labels, np.zeros_like(held.labels))
    roots = {key: axes.labels.roots(held.labels) for key, held in axes.held.items()}
    found = tuple(replace(held, labels=roots[key]) for key, held in axes.held.items())
    spaces = axes.labels.classes()
    fixed = axes.labels.fixed()
    alone = np.setdiff1d(
        np.concatenate([ids.reshape(-1) for ids in roots.values()] or [np.zeros(0, np.int64)]),
        np.concatenate([*spaces, np.array([*fixed], np.int64)]),
    )
    for held in found:
        for root in np.intersect1d(held.labels, alone).tolist():
            detail = f"no other channel of {held.value.name} is read in the same way"
            fixed.setdefault(root, Block(Reason.ORDER, held.value.name, detail))
    numbers = {(id(held.value), held.axis): held.labels for held in found if held.use is None}
    return Spaces(tuple(spaces), found, fixed, numbers)


def gathered(labels: Ids, moved: Ids) -> Ids:
    """Return from where each place of an axis is taken.

    Parameters
    ----------
    labels : (C,) ndarray of int
        The channel at each place.
    moved : ndarray of int
        By the number of a channel, which one takes its place.

    Returns
    -------
    (C,) ndarray of int
        The first place of a channel takes what was at the first of the other, and so on.
    """
    places = np.argsort(labels, kind="stable")
    ordered = labels[places]
    starts = np.searchsorted(ordered, labels)
    rank = np.empty_like(places)
    rank[places] = np.arange(len(labels))
    found: Ids = places[np.searchsorted(ordered, moved[labels]) + rank - starts]
    return found

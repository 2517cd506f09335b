"""A model with its channels in another order, which is the same function: new constants alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.graph.build import gs_nodes
from normswap.graph.evaluate import constant_source
from normswap.graph.expressions import Expression
from normswap.graph.names import Names
from normswap.graph.unread import drop_unread
from normswap.model import make_constant
from normswap.permuting.axes import is_leaf
from normswap.permuting.spaces import gathered
from normswap.proof.reordered import Reordered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from normswap.dtypes import Wide
    from normswap.graph.network import Use, Value
    from normswap.model import Model, TensorSource
    from normswap.permuting.labels import Ids
    from normswap.permuting.spaces import Spaces


@dataclass(frozen=True, eq=False)
class Permuted(Expression):
    """A constant with its elements in another order, bit by bit what they were.

    Parameters
    ----------
    base : TensorSource
        Of any element type.
    places : mapping of int to ndarray of int
        By axis, ``(C,)``: from where each place is taken. For the second axis ``(G, C)`` too: as
        the first axis is divided into G parts, each has its own order.
    """

    base: TensorSource
    places: Mapping[int, Ids]

    @property
    def data_type(self) -> int:  # type: ignore[override]
        """Type of the base."""
        return self.base.data_type

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of the base."""
        return tuple(self.base.shape)

    def load(self) -> npt.NDArray[Any]:
        """Return the values as they are stored."""
        values = self.base.load()
        for axis, places in self.places.items():
            if places.ndim == 1:
                values = np.take(values, places, axis)
                continue
            parts = np.split(values, len(places))
            taken = (np.take(part, own, axis) for part, own in zip(parts, places, strict=True))
            values = np.concatenate(list(taken))
        return np.ascontiguousarray(values)

    def wide(self) -> Wide:
        """Return the values, which nothing was computed of, as they are."""
        raise AssertionError("nothing is computed of a permuted constant")

    def bound(self) -> float:
        """Return infinity: nothing is known of the values, and nothing was done to them."""
        return np.inf


def permute(
    model: Model, spaces: Spaces, orders: Mapping[int, npt.NDArray[np.integer]]
) -> list[Reordered]:
    """Put channels of a model in another order, wherever they are.

    Parameters
    ----------
    model : Model
        For whose network the spaces were found; it is edited.
    spaces : Spaces
    orders : mapping of int to (C,) ndarray of int
        See :meth:`Spaces.reordered`.

    Returns
    -------
    list of Reordered
        The tensors that are permuted now, for the proof.
    """
    moved = spaces.reordered(orders)
    constants: dict[int, _Constant] = {}
    found: list[Reordered] = []
    for held in spaces.axes:
        labels = held.labels
        if (moved[labels] == labels).all():
            continue
        rows = [gathered(row, moved) for row in labels.reshape(-1, labels.shape[-1])]
        places = np.array(rows) if labels.ndim > 1 else rows[0]
        if is_leaf(held.value):
            key = id(held.value) if held.use is None else id(held)
            uses = [*held.value.readers.values()] if held.use is None else [held.use]
            constants.setdefault(key, _Constant(held.value, uses, {})).places[held.axis] = places
        else:
            found.append(Reordered(held.value.graph.path, held.value.name, held.axis, places))
    _replace(model, constants.values())
    return found


@dataclass(frozen=True, slots=True)
class _Constant:
    value: Value
    uses: list[Use]
    places: dict[int, Ids]


def _replace(model: Model, constants: Iterable[_Constant]) -> None:
    """Let the nodes that read constants read permuted ones; those that nobody reads any more go."""
    nodes = list(gs_nodes(model))
    names = Names(model)
    released: list[Any] = []
    for constant in constants:
        source = Permuted(constant_source(constant.value), constant.places)
        made: dict[int, Any] = {}  # by id of the graph: a body has constants of its own
        for use in constant.uses:
            home = id(use.node.graph)
            if home not in made:
                made[home] = make_constant(names.fresh(f"{constant.value.name}_permuted"), source)
            inputs = nodes[use.node.key].inputs
            released.append(inputs[use.slot])
            inputs[use.slot] = made[home]
    drop_unread(released, model)

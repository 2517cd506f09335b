"""A model whose channels are in another order, read so that it can be proved tensor by tensor.

Whoever has permuted the channels of a network knows in which order each of its tensors is now. Here
that is a hint: behind such a tensor t stand two nodes more, one that puts its channels into the
order of the original, and one that puts them back::

    u = Gather(t, places^-1),  v = Gather(u, places)      and whoever read t reads v

Both together are nothing, whatever the hint says: that `places` is a permutation of the whole axis
is looked at here. So it is the same model, and u, which has the name of t, is what the original has
under that name, if the hint is right; the proof compares the two like any others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from normswap.proof.flat import ENTRY, NONE, Flat, Node, NotFlatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from normswap.proof.sizes import Sizes


@dataclass(frozen=True, slots=True, eq=False)
class Reordered:
    """A tensor of a permuted model, and the order in which its channels are.

    Attributes
    ----------
    graph : str
        Where it is, see :class:`normswap.graph.network.Graph`; empty for the main graph.
    tensor : str
    axis : int
    places : (C,) ndarray of int
        Which channel of the original each one is.
    """

    graph: str
    tensor: str
    axis: int
    places: npt.NDArray[np.int64]


def put_in_order(flat: Flat, orders: Iterable[Reordered]) -> dict[int, Reordered]:
    """Put two nodes behind each tensor that is permuted.

    Parameters
    ----------
    flat : Flat
        The permuted model; it is edited.
    orders : iterable of Reordered
        Those of tensors that it does not have are left out.

    Returns
    -------
    dict of int to Reordered
        By number, the tensors behind which they stand: see :func:`require_whole`.

    Raises
    ------
    NotFlatError
        If an order is no permutation.
    """
    known = {(bool(order.graph), order.tensor): order for order in orders}
    for order in known.values():
        if not np.array_equal(np.sort(order.places), np.arange(len(order.places))):
            raise NotFlatError(f"the order of {order.tensor} is no permutation")
    read: dict[int, int] = {}  # what is read in place of a tensor
    found: dict[int, Reordered] = {}
    random = {id(flat.nodes[index]) for index in flat.random}
    nodes: list[Node] = []
    for node in flat.nodes:
        node.inputs[:] = [read.get(number, number) for number in node.inputs]
        nodes.append(node)
        if node.op == ENTRY:
            continue
        for number in node.outputs:
            hint = None if number == NONE else known.get((bool(node.path), flat.names[number]))
            if hint is None:
                continue
            found[number] = hint
            own = _gather(flat, nodes, node, number, hint.axis, np.argsort(hint.places))
            read[number] = _gather(flat, nodes, node, own, hint.axis, hint.places)
            flat.names[read[number]] = flat.names[number] = f"{hint.tensor} permuted"
            flat.between |= {number, read[number]}
    flat.nodes = nodes
    for index, node in enumerate(nodes):
        node.index = index
    flat.random = {node.index for node in nodes if id(node) in random}
    return found


def _gather(
    flat: Flat, nodes: list[Node], behind: Node, number: int, axis: int, places: np.ndarray
) -> int:
    """Add a Gather of a tensor by constant places, and return what it makes."""
    index = flat.add(f"places of {flat.names[number]}", onnx.TensorProto.INT64)
    flat.tensors[index] = onnx.numpy_helper.from_array(np.asarray(places, np.int64))
    name = flat.names[number]
    proto = onnx.helper.make_node("Gather", [name, flat.names[index]], [name], axis=axis)
    opset = behind.opset if behind.is_standard else _SINCE
    node = Node("Gather", "", opset, {"axis": axis}, [number, index], [], proto, behind.path)
    made = flat.add(name, flat.types[number], node)
    node.outputs.append(made)
    nodes.append(node)
    return made


_SINCE = 13


def require_whole(found: dict[int, Reordered], sizes: Sequence[Sizes]) -> None:
    """Let pass orders that are of all channels of their tensors.

    Raises
    ------
    NotFlatError
        If one is not, or that is not known.
    """
    for number, order in found.items():
        for each in sizes:
            shape = each.shapes.get(number)
            if shape is None or shape[order.axis : order.axis + 1] != (len(order.places),):
                raise NotFlatError(f"the order of {order.tensor} is not of all its channels")

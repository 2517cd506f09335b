"""A model whose channels are in another order, read so that it can be proved tensor by tensor.

Whoever has permuted the channels of a network knows in which order each of its tensors is now. Here
that is a hint: behind such a tensor t stand two nodes more, one that puts its channels into the
order of the original, and one that puts them back::

    u = Gather(t, places^-1),  v = Gather(u, places)      and whoever read t reads v

Both together are nothing, whatever the hint says: that `places` is a permutation of the whole axis
is looked at here. So it is the same model, and u, which has the name of t, is what the original has
under that name, if the hint is right; the proof compares the two like any others.

What a Gather does to the channels that a linear operator reads, or makes, another does to its
weight, and so large weights are compared as they are instead of being run::

    Gather(W * Gather(u, p), q^-1) = Gather(Gather(W, q^-1, outputs), p^-1, inputs) * u
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from normswap.proof.flat import ENTRY, NONE, Flat, FlatNode, NotFlatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from normswap.proof.sizes import Sizes

    Places = npt.NDArray[np.int64]


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
            raise NotFlatError(f"the new channel order of {order.tensor} is not a permutation")
    editing = _Editing(flat)
    random = {id(flat.nodes[index]) for index in flat.random}
    for node in flat.nodes:
        made = node.outputs if node.op != ENTRY else []
        hints = [known.get((bool(node.path), flat.names[n])) if n != NONE else None for n in made]
        editing.add(node, hints)
    flat.nodes = editing.nodes
    for index, node in enumerate(flat.nodes):
        node.index = index
    flat.random = {node.index for node in flat.nodes if id(node) in random}
    return editing.found


class _Editing:
    """Goes through the nodes, and puts others between.

    Attributes
    ----------
    nodes : list of FlatNode
        All so far.
    found : dict of int to Reordered
        By number of a tensor.
    """

    def __init__(self, flat: Flat) -> None:
        self._flat = flat
        self.nodes: list[FlatNode] = []
        self.found: dict[int, Reordered] = {}
        self._read: dict[int, int] = {}  # what is read in place of a tensor
        self._behind: dict[int, tuple[int, Reordered]] = {}  # u, by v

    def add(self, node: FlatNode, hints: Sequence[Reordered | None]) -> None:
        """Add a node and, behind what is permuted of what it makes, two more."""
        flat = self._flat
        node.inputs[:] = [self._read.get(number, number) for number in node.inputs]
        if len(hints) == 1 and self._is_straightened(node, hints[0]):
            self.nodes.append(node)
            if hints[0] is not None:
                self._put(node, node.outputs[0], node.outputs[0], hints[0])
            return
        self.nodes.append(node)
        for number, hint in zip(node.outputs, hints, strict=False):
            if hint is not None:
                own = self._gather(node, number, hint.axis, np.argsort(hint.places))
                flat.names[number] = f"{hint.tensor} permuted"
                flat.between.add(number)
                self._put(node, number, own, hint)

    def _put(self, node: FlatNode, number: int, own: int, hint: Reordered) -> None:
        """Let whoever reads a tensor read u in its present order."""
        flat = self._flat
        back = self._gather(node, own, hint.axis, hint.places)
        flat.names[back] = f"{hint.tensor} permuted"
        flat.between.add(back)
        self.found[number] = hint
        self._read[number] = back
        self._behind[back] = own, hint

    def _is_straightened(self, node: FlatNode, made: Reordered | None) -> bool:
        """Let a linear operator read and make channels in the order of the original, if it can."""
        own, read = self._behind.get(node.inputs[0] if node.inputs else NONE, (NONE, None))
        if not node.is_standard or (read is None and made is None):
            return False
        if any(hint is not None and hint.axis != 1 for hint in (read, made)):
            return False
        p, q = (None if hint is None else np.argsort(hint.places) for hint in (read, made))
        taken = self._taken(node, p, q)
        if taken is None:
            return False
        for slot, axes in taken.items():
            for axis, places in axes.items():
                if places is not None:
                    node.inputs[slot] = self._gather(node, node.inputs[slot], axis, places)
        if read is not None:
            node.inputs[0] = own
        return True

    def _taken(
        self, node: FlatNode, p: Places | None, q: Places | None
    ) -> dict[int, dict[int, Places | None]] | None:
        """Return what is to be taken of which axis of each parameter; None where that is open.

        Parameters
        ----------
        node : FlatNode
        p, q : (C,) ndarray of int
            Which channel of what is read (made) each one of the original is.
        """
        shapes = [self._shape(number) for number in node.inputs[1:]]
        if node.op == "BatchNormalization" and len(node.outputs) == 1:
            same = p is not None and q is not None and np.array_equal(p, q)
            return {slot: {0: p} for slot in range(1, 5)} if same else None
        if node.op not in {"Conv", "ConvTranspose", "Gemm"} or not shapes or shapes[0] is None:
            return None
        if node.op == "Gemm" and node.attributes.get("transA", 0):
            return None
        outputs = 0 if node.op == "Conv" or node.attributes.get("transB", 0) else 1
        weight = {outputs: q, 1 - outputs: p}
        if node.attributes.get("group", 1) != 1:  # depthwise, its channels as they are read
            if node.op != "Conv" or p is None or q is None or shapes[0][0] % len(p):
                return None
            each = np.arange(shapes[0][0] // len(p))
            spread = (p[:, np.newaxis] * len(each) + each).reshape(-1)
            if node.attributes["group"] != len(p) or not np.array_equal(spread, q):
                return None
            weight = {0: q}
        if any(w is not None and len(w) != shapes[0][axis] for axis, w in weight.items()):
            return None
        taken = {1: weight}
        if len(node.inputs) > 2 and node.inputs[2] != NONE and q is not None:
            shape = shapes[1]
            if shape is None or (shape and shape[-1] not in {1, len(q)}):
                return None
            if shape and shape[-1] != 1:
                taken[2] = {len(shape) - 1: q}
        return taken

    def _shape(self, number: int) -> tuple[int, ...] | None:
        """Return the shape of a constant."""
        tensor = self._flat.tensors.get(number)
        return None if tensor is None else tuple(tensor.dims)

    def _gather(self, behind: FlatNode, number: int, axis: int, places: Places) -> int:
        """Add a Gather of a tensor by constant places, and return what it makes."""
        flat = self._flat
        index = flat.add(f"places of {flat.names[number]}", onnx.TensorProto.INT64)
        flat.tensors[index] = onnx.numpy_helper.from_array(np.asarray(places, np.int64))
        name = flat.names[number]
        proto = onnx.helper.make_node("Gather", [name, flat.names[index]], [name], axis=axis)
        opset = behind.opset if behind.is_standard else _SINCE
        node = FlatNode(
            "Gather", "", opset, {"axis": axis}, [number, index], [], proto, behind.path
        )
        made = flat.add(name, flat.types[number], node)
        node.outputs.append(made)
        self.nodes.append(node)
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
                raise NotFlatError(
                    f"the new channel order of {order.tensor} does not cover all its channels"
                )

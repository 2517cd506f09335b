"""Which node of a model is which of another one.

Nodes are laid flat (:mod:`normswap.proof.flat`) and numbered in one table
(:mod:`normswap.proof.numbering`): what makes the same function of the inputs is the same node,
whatever it is called. Of the rest, a node is one of the same operator that has its name, or that
reads the same; and, from the outputs back, that is read by the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.proof.flat import NONE
from normswap.proof.numbering import ClassTable, Side

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Iterator

    from normswap.proof.flat import FlatNode

Kind = tuple[str, str]


class Pairs:
    """The nodes of two models, paired.

    Parameters
    ----------
    a, b : Side
        Before and after; get their classes here. Their inputs go by the same names.

    Attributes
    ----------
    nodes : dict of int to int
        Index of a node of `a` by that of its partner in `b`.
    same : set of int
        Those of `b` that are the same function of the inputs as their partner.
    tensors : dict of int to int
        Number of a tensor of `a` by that of its partner in `b`.
    """

    def __init__(self, a: Side, b: Side) -> None:
        self._a, self._b = a, b
        self.nodes: dict[int, int] = {}
        self.same: set[int] = set()
        self.tensors: dict[int, int] = {}
        table = ClassTable()
        homes = table.walk(a)
        table.walk(b)
        self._taken: set[int] = set()
        for number, kind in enumerate(b.classes):
            if b.flat.makers[number] is None and kind in homes:
                self.tensors[number] = homes[kind]
        self._pair_same()
        self._pair_forwards()
        self._pair_backwards()
        self._pair_forwards()

    def gone(self) -> Iterator[FlatNode]:
        """Yield the nodes of `a` that have no partner."""
        return (node for node in self._a.flat.nodes if node.index not in self._taken)

    def new(self) -> Iterator[FlatNode]:
        """Yield the nodes of `b` that have none."""
        return (node for node in self._b.flat.nodes if node.index not in self.nodes)

    def are_one(self, before: int, after: int) -> bool:
        """Whether tensors are partners, but for nodes in between that are gone or new."""
        if self._a.classes[before] == self._b.classes[after]:
            return True
        start = self._first(self._a, before, self._taken)
        end = self._first(self._b, after, self.nodes)
        return self.tensors.get(after) == before or self.tensors.get(end) == start

    def _first(self, side: Side, number: int, paired: Container[int]) -> int:
        """Return what nodes without a partner make a tensor of: the first that varies."""
        maker = side.flat.makers[number]
        while maker is not None and maker.index not in paired:
            read = next((n for n in maker.inputs if self._varies(side, n)), None)
            if read is None:
                break
            number, maker = read, side.flat.makers[read]
        return number

    def _pair(self, node: FlatNode, partner: FlatNode) -> None:
        self.nodes[node.index] = partner.index
        self._taken.add(partner.index)
        for number, other in zip(node.outputs, partner.outputs, strict=False):
            if NONE not in {number, other}:
                self.tensors[number] = other

    def _pair_same(self) -> None:
        """Pair what the table has in one class: of several first what has the same name."""
        for by_name in (True, False):
            known: dict[Hashable, list[FlatNode]] = {}
            for node in self.gone():
                known.setdefault(self._class(self._a, node, by_name=by_name), []).append(node)
            for node in list(self.new()):
                alike = known.get(self._class(self._b, node, by_name=by_name))
                if alike:
                    self._pair(node, alike.pop(0))
                    self.same.add(node.index)

    @staticmethod
    def _class(side: Side, node: FlatNode, *, by_name: bool) -> Hashable:
        first = next((number for number in node.outputs if number != NONE), NONE)
        kind = NONE if first == NONE else side.classes[first]
        return (*_kind(node), kind, node.title if by_name else "")

    def _pair_forwards(self) -> None:
        """Pair what has the same name, or reads the same, in the order of the nodes."""
        by_name: dict[Hashable, FlatNode] = {}
        by_reads: dict[Hashable, list[FlatNode]] = {}
        for node in self.gone():
            by_name.setdefault((*_kind(node), node.title), node)
            reads = [number for number in node.inputs if self._varies(self._a, number)]
            by_reads.setdefault((*_kind(node), *reads), []).append(node)
        for node in list(self.new()):
            partner = by_name.get((*_kind(node), node.title))
            if partner is None or partner.index in self._taken:
                reads = [n for n in node.inputs if self._varies(self._b, n)]
                known = [self.tensors.get(number, NONE) for number in reads]
                alike = by_reads.get((*_kind(node), *known), []) if known else []
                partner = next((other for other in alike if other.index not in self._taken), None)
            if partner is not None:
                self._pair(node, partner)

    def _pair_backwards(self) -> None:
        """Pair what makes an output, or what a pair reads, from the end to the beginning."""
        wanted = dict(self._outputs())
        for node in reversed(self._b.flat.nodes):
            partner_index = self.nodes.get(node.index)
            if partner_index is None:
                makers = (self._a.flat.makers[wanted[n]] for n in node.outputs if n in wanted)
                free = (m for m in makers if m is not None and m.index not in self._taken)
                partner = next((maker for maker in free if _kind(maker) == _kind(node)), None)
                if partner is None:
                    continue
                self._pair(node, partner)
            else:
                partner = self._a.flat.nodes[partner_index]
            for number, other in zip(node.inputs, partner.inputs, strict=False):
                if NONE not in {number, other}:
                    wanted.setdefault(number, other)

    def _outputs(self) -> Iterator[tuple[int, int]]:
        """Yield outputs that correspond: by their names, else by their places."""
        named = dict(self._a.flat.outputs)
        for place, (name, number) in enumerate(self._b.flat.outputs):
            if name in named:
                yield number, named[name]
            elif place < len(self._a.flat.outputs):
                yield number, self._a.flat.outputs[place][1]

    @staticmethod
    def _varies(side: Side, number: int) -> bool:
        return number != NONE and number not in side.constants


def _kind(node: FlatNode) -> Kind:
    return node.op, node.domain

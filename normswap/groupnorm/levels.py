"""In which order the layers of a network can be estimated, and from where each pass can start.

- A layer's *level* is one more than the highest of the layers that what comes to it depends on. All
  of a level are estimated in one pass over the data.
- Layers that depend on themselves (in a Loop, by what a turn hands to the next; used twice, one
  behind the other) *recur*, and share a level with those on the way.
- A pass needs no more of the network before it than the tensors in which the part that depends on
  the level reads what doesn't: the *frontier*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs
from onnx import TensorProto

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from normswap.graph.network import Graph, Network, Node, Value

_PLAIN = frozenset(
    {
        TensorProto.FLOAT16,
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
        TensorProto.BOOL,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT8,
    }
)
"""What goes to the runtime and back as it is."""


def bodies_of(network: Network) -> dict[int, list[Graph]]:
    """Return the bodies of nodes, by the key of the node."""
    found: dict[int, list[Graph]] = {}
    for graph in network.graphs:
        children = iter(graph.subgraphs)
        for node in graph.nodes:
            for value in node.attrs.values():
                if isinstance(value, gs.Graph):
                    found.setdefault(node.key, []).append(next(children))
    return found


class Order:
    """What depends on which layers.

    Parameters
    ----------
    network : Network
        Without calls of functions.
    uses : dict of int to int
        The number of the layer, by the key of each of its nodes.
    count : int
        How many layers there are.

    Attributes
    ----------
    levels : list of list of int
        The numbers of the layers, level by level.
    recurring : dict of int to int
        The layers that depend on themselves, each with one that stands for all that depend on each
        other.
    """

    def __init__(self, network: Network, uses: dict[int, int], count: int) -> None:
        self._main = network.graphs[0]
        self._uses = uses
        # Sets of layers are bits of an integer.
        self._masks: dict[int, int] = {}  # of a tensor by its id: the layers that it depends on
        self._whole: dict[int, int] = {}  # of a node by its key: those of all inside of it
        self._needs = [0] * count  # of a layer: those that what comes to it depends on
        self._bodies = bodies_of(network)
        self._graph(self._main)
        self._close()
        self.recurring = {
            i: next(j for j in _bits(needs) if self._needs[j] >> i & 1)
            for i, needs in enumerate(self._needs)
            if needs >> i & 1
        }
        self._level = self._leveled()
        self.levels: list[list[int]] = [[] for _ in range(max(self._level, default=0))]
        for number, level in enumerate(self._level):
            self.levels[level - 1].append(number)

    def frontiers(self, ends: Iterable[Value] = ()) -> list[dict[str, int]] | None:
        """Return what each pass can start from.

        Parameters
        ----------
        ends : iterable of Value
            Tensors of the main graph that are wanted in the end too; they are kept once nothing
            that they depend on is to change any more.

        Returns
        -------
        list of dict of str to int, or None
            Of every level, and empty before the first: tensors and their types. None where one is
            of a type that can't be handed over.
        """
        masks = {0, *self._masks.values(), *self._whole.values()}
        stages = {mask: self._stage(mask) for mask in masks}
        main = {node.key: node for node in self._main.nodes}
        pending = [node for node in main.values() if self._has_use(node)]
        needed = {node.key for node in pending}
        found: list[dict[str, int]] = [{} for _ in range(len(self.levels) + 1)]

        def keep(value: Value, last: int) -> bool:
            """Keep a tensor for what is gone through up to a level."""
            if value.producer is not None and value.producer.key not in needed:
                needed.add(value.producer.key)
                pending.append(value.producer)
            first = stages[self._masks.get(id(value), 0)]
            for level in range(first + 1, last + 1):
                found[level][value.name] = value.data_type or 0
            return first >= last or value.data_type in _PLAIN

        sound = all(keep(value, len(self.levels)) for value in ends)
        while pending and sound:
            node = pending.pop()
            last = stages[self._whole[node.key]]
            sound = all(keep(value, last) for value in self._read(node))
        return found if sound else None

    def _has_use(self, node: Node) -> bool:
        inner = (item for body in self._inside(node) for item in body.nodes)
        return any(item.key in self._uses for item in (node, *inner))

    def _read(self, node: Node) -> Iterator[Value]:
        """Yield the tensors of the main graph that a node and its bodies read, but constants."""
        nodes = [node]
        for body in self._inside(node):
            nodes += body.nodes
            yield from (v for v in body.outputs if v.graph is self._main and v.source is None)
        for inner in nodes:
            for value in inner.inputs:
                if value is not None and value.graph is self._main and value.source is None:
                    yield value

    def _inside(self, node: Node) -> list[Graph]:
        found = list(self._bodies.get(node.key, ()))
        for body in found:  # grows meanwhile
            for inner in body.nodes:
                found += self._bodies.get(inner.key, ())
        return found

    def _graph(self, graph: Graph) -> int:
        """Go through a graph, and return what its nodes depend on in all."""
        whole = 0
        for node in graph.nodes:
            whole |= self._node(node)
        return whole

    def _node(self, node: Node) -> int:
        read = [self._masks.get(id(value), 0) if value is not None else 0 for value in node.inputs]
        mask = self._union(read)
        number = self._uses.get(node.key)
        if number is not None:
            self._needs[number] |= mask
            mask |= 1 << number
        for body in self._bodies.get(node.key, ()):
            mask |= self._body(node, body, read)
        self._whole[node.key] = mask
        for value in node.outputs:
            if value is not None:
                self._masks[id(value)] = mask
        return mask

    def _body(self, node: Node, body: Graph, read: list[int]) -> int:
        """Go through a body, again as long as what a turn hands to the next brings more."""
        given = dict(enumerate(read))
        shift = 1 if node.op == "Loop" else 0  # outputs begin with the condition, inputs with two
        states = len(read) - 2 if node.op == "Loop" else len(read) - node.attr("num_scan_inputs", 0)
        while True:
            for slot, value in enumerate(body.inputs):
                self._masks[id(value)] = self._masks.get(id(value), 0) | given.get(slot, 0)
            whole = self._graph(body)
            before = dict(given)
            for state in range(max(states, 0) if node.op in ("Loop", "Scan") else 0):
                if state + shift < len(body.outputs):
                    slot = state + 2 * shift
                    made = self._masks.get(id(body.outputs[state + shift]), 0)
                    given[slot] = given.get(slot, 0) | made
            if given == before:
                return whole

    @staticmethod
    def _union(masks: list[int]) -> int:
        whole = 0
        for mask in masks:
            whole |= mask
        return whole

    def _close(self) -> None:
        """Let every layer need what those need that it needs."""
        changed = True
        while changed:
            changed = False
            for number, needs in enumerate(self._needs):
                whole = self._union([needs, *(self._needs[i] for i in _bits(needs))])
                changed |= whole != needs
                self._needs[number] = whole

    def _leveled(self) -> list[int]:
        level = [0] * len(self._needs)
        # Who needs more comes later; of equals, who needs itself is needed by the others.
        order = sorted(
            range(len(level)),
            key=lambda i: (self._needs[i].bit_count(), i not in self.recurring),
        )
        for i in order:
            needs = self._needs[i]
            before = [
                level[j] for j in _bits(needs) if not (self._needs[j] >> i & 1 and needs >> j & 1)
            ]
            level[i] = 1 + max(before, default=0)
        return level

    def _stage(self, mask: int) -> int:
        """Return the highest level of some layers."""
        return max((self._level[i] for i in _bits(mask)), default=0)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest

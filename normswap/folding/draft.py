"""A plan in the making: edits tried on a mirror of the model, and records of what they are for.

All of it is in one journal, so that what ends in a block is taken back as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from normswap.folding.edits import (
    Bypass,
    Convert,
    Divide,
    Duplicate,
    Edit,
    Inline,
    Insert,
    Merge,
    Omit,
    Replace,
    SetAttribute,
    Specialise,
)
from normswap.folding.growth import stored_bytes
from normswap.folding.legacy import recorded
from normswap.folding.plan import Folded
from normswap.graph.batchnorm import epsilon_of
from normswap.graph.network import Network, Node, Use, Value
from normswap.graph.reasons import Block, Blocked, Reason
from normswap.graph.removal import takes_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from normswap.folding.record import Record
    from normswap.graph.expressions import Expression
    from normswap.graph.network import Graph

K = TypeVar("K")
V = TypeVar("V")
Undo = Callable[[], object]


class Draft:
    """A network under edit, with its history.

    Parameters
    ----------
    network : Network
        Is changed by :meth:`commit`, and changed back by :meth:`rollback`.
    allowed : float
        Bytes by which constants may grow.
    only_up : bool
        Whether an affine may go to what is before it only.

    Attributes
    ----------
    added : int
        Bytes by which they have grown.
    edits : list of Edit
        In the order in which they were made.
    records : dict
        What was found in each graph, by the key of its last node.
    begun : dict of Graph to int
        When a graph was first looked at.
    idle : dict of Graph to frozenset of int
        The keys of nodes whose results nobody reads in the model.
    turned : dict of Graph to frozenset of int
        The keys of Transposes that undo the one before them in the model.
    merged : dict of int to tuple of str
        Titles of what a Conv took in, by its key.
    specialised : dict of int to int
        The key of the first node of the copy that a call has, by the key of the call.
    inlined : dict of int to int
        The key of the call in whose place a node stands, by its own.
    divided : dict of int to int
        The key of a BatchNormalization, by that of the node that has got its statistics.
    undivided : dict of int to Block
        Why a BatchNormalization keeps them that was to be divided, by its key.
    """

    def __init__(
        self, network: Network, allowed: float = math.inf, *, only_up: bool = False
    ) -> None:
        self.network = network
        self.allowed = allowed
        self.only_up = only_up
        self.added = 0
        self.nodes: dict[int, Node] = {node.key: node for node in network.nodes()}
        self.edits: list[Edit] = []
        self.records: dict[Graph, dict[int, Record]] = {}
        self.begun: dict[Graph, int] = {}
        self.idle: dict[Graph, frozenset[int]] = {}
        self.turned: dict[Graph, frozenset[int]] = {}
        self.merged: dict[int, tuple[str, ...]] = {}
        self.specialised: dict[int, int] = {}
        self.inlined: dict[int, int] = {}
        self.divided: dict[int, int] = {}
        self.undivided: dict[int, Block] = {}
        self._arguments: dict[Value, Value] = {}  # what a call gives for an input of its copy
        self._journal: list[tuple[int, Undo]] = []  # how many edits there were, and how to go back

    def mark(self) -> int:
        """Return this point in the history, for :meth:`rollback`."""
        return len(self._journal)

    def since(self, mark: int) -> list[Edit]:
        """Return the edits that came after ``mark``."""
        return self.edits[self._journal[mark][0] :] if mark < len(self._journal) else []

    def rollback(self, mark: int) -> None:
        """Take back every edit that came after ``mark``, and every note."""
        while len(self._journal) > mark:
            count, undo = self._journal.pop()
            undo()
            del self.edits[count:]

    def _later(self, undo: Undo) -> None:
        self._journal.append((len(self.edits), undo))

    @contextmanager
    def trial(self) -> Iterator[int]:
        """Take back what is done within if that is blocked."""
        mark = self.mark()
        try:
            yield mark
        except Blocked:
            self.rollback(mark)
            raise

    def note(self, table: dict[K, V], key: K, value: V) -> None:
        """Enter something in a table, such as :attr:`records`."""
        if key in table:
            self._later(partial(table.__setitem__, key, table[key]))
        else:
            self._later(partial(table.pop, key))
        table[key] = value

    def enter(self, record: Record, **changes: Any) -> None:
        """Note what is known of a normalization by now, of the same nodes as before."""
        table = self.records[record.whole.graph]
        self.note(table, record.whole.key, replace(record, **changes) if changes else record)

    def left(self, graph: Graph) -> list[Record]:
        """Return what is not folded in a graph, in the order in which it was found."""
        return [r for r in self.records[graph].values() if not isinstance(r.fate, Folded)]

    def outgrown(self, name: str) -> Block | None:
        """Say that there would be too much of constants, if so."""
        if self.added <= self.allowed:
            return None
        detail = (
            f"with {name} folded, constants would take {self.added:,} bytes more in total, "
            f"and --max-growth allows {self.allowed:,.0f}"
        )
        return Block(Reason.GROWTH, name, detail)

    def callee(self, call: Node, number: int) -> Graph:
        """Return the body that a call has: that of a copy, or of the function itself.

        Parameters
        ----------
        call : Node
        number : int
            Which of the model's functions it calls.
        """
        first = self.specialised.get(call.key)
        return self.network.bodies[number] if first is None else self.nodes[first].graph

    def commit(self, edits: Iterable[Edit]) -> None:
        """Carry out edits on the network."""
        for edit in edits:
            done = edit
            match edit:
                case Replace():
                    self._replace(edit)
                case SetAttribute():
                    self._set_attribute(edit)
                case Insert():
                    self._insert(edit)
                case Convert():
                    self._convert(edit)
                case Divide():
                    self._divide(edit)
                case Duplicate():
                    self._duplicate(edit)
                case Omit():
                    self._omit(edit)
                case Specialise():  # to share a copy that is there
                    self.note(self.specialised, edit.node, edit.first)
                case Bypass():
                    done = Bypass(edit.node, edit.slot, self._bypass(edit))
                case Merge():
                    done = Merge(edit.node, edit.into, self._merge(edit))
            self.edits += self._recorded(done)

    def _recorded(self, edit: Edit) -> list[Edit]:
        """Return an edit, that was just made, as it is to be made on the model."""
        if not isinstance(edit, Replace | Insert):
            return [edit]
        node = self.nodes[edit.node]
        value = node.input(0) if isinstance(edit, Replace) else node.outputs[edit.output]
        return recorded(edit, node, value, self.network.keys - 1)

    def specialise(self, edit: Specialise, graphs: Sequence[Graph]) -> None:
        """Let a call have a copy of its function, whose graphs were just added to the network."""
        nodes = [node for graph in graphs for node in graph.nodes]
        known = len(self.network.graphs) - len(graphs)
        self.nodes |= {node.key: node for node in nodes}
        added = self.added
        self.added += sum(stored_bytes(node.out) for node in nodes if node.op == "Constant")

        def undo() -> None:
            self.added = added
            del self.network.graphs[known:]
            for node in nodes:
                del self.nodes[node.key]
            self.network.keys = edit.first

        self._later(undo)
        for inner, outer in zip(graphs[0].inputs, self.nodes[edit.node].inputs, strict=False):
            if outer is not None:
                self.note(self._arguments, inner, outer)
        self.commit([edit])

    def inline(self, edit: Inline, graphs: Sequence[Graph]) -> None:
        """Let the body of a function, whose graphs were just added, take the place of a call."""
        call, (body, *_) = self.nodes[edit.node], graphs
        caller, known = call.graph, len(self.network.graphs) - len(graphs)
        nodes = [node for graph in graphs for node in graph.nodes]
        self.nodes |= {node.key: node for node in nodes}
        del self.network.graphs[known]
        caller.nodes += body.nodes
        caller.subgraphs += body.subgraphs
        for graph in body.subgraphs:
            graph.parent = caller
        for node in body.nodes:
            node.graph, node.name = caller, f"{call.title}/{node.title}"
            for value in (*node.inputs, *node.outputs):
                if value is not None and value.graph is body:
                    value.graph = caller
        added = self.added

        def undo() -> None:
            self.added = added
            del caller.nodes[len(caller.nodes) - len(body.nodes) :]
            del caller.subgraphs[len(caller.subgraphs) - len(body.subgraphs) :]
            del self.network.graphs[known:]
            for node in nodes:
                del self.nodes[node.key]
            self.network.keys = edit.first

        self._later(undo)
        for node in body.nodes:
            self.note(self.inlined, node.key, call.key)
        for slot, value in enumerate(body.inputs):
            argument = call.input(slot)
            for use in list(value.readers.values()):
                self._connect(use.node, use.slot, argument)
            if argument is not None and value.captured:
                self._set(argument, "captured", value=True)
        self._disconnect(call)
        # Arguments are stored as before, and what stands for them in the body never was.
        constants = (node.out for node in nodes if node.op == "Constant")
        self.added = added + sum(map(stored_bytes, constants))
        for value in body.outputs:
            value.is_output = False
        for value, result in zip(body.outputs, call.outputs, strict=False):
            if result is not None:
                value.name = result.name
                self._take_over(value, result)
        self._set(call, "removed", value=True)
        self.edits.append(edit)

    def _connect(self, node: Node, slot: int, value: Value | None) -> None:
        """Let an input of a node read another tensor."""
        length, old, key, added = len(node.inputs), node.input(slot), (node.key, slot), self.added
        use = Use(node, slot)
        node.inputs.extend([None] * (slot + 1 - length))
        node.inputs[slot] = value
        if old is not None:
            old.readers.pop(key)
            self.added -= self._kept_for(old, readers=0)
        if value is not None:
            value.readers[key] = use
            self.added += self._kept_for(value, readers=1)

        self._later(partial(self._connect_back, use, length, old, value, added))

    def _disconnect(self, node: Node) -> None:
        """Let a node read nothing."""
        read, added = node.inputs, self.added
        node.inputs = [None] * len(read)
        for slot, value in enumerate(read):
            if value is not None:
                value.readers.pop((node.key, slot))
                self.added -= self._kept_for(value, readers=0)

        def undo() -> None:
            self.added = added
            node.inputs = read
            for slot, value in reversed(list(enumerate(read))):
                if value is not None:
                    value.readers[node.key, slot] = Use(node, slot)

        self._later(undo)

    def release(self, node: Node) -> None:
        """Let a node of which nothing comes read nothing, since it goes from the model."""
        added = self.added  # in which that is counted
        self._disconnect(node)
        self.added = added

    def _connect_back(
        self, use: Use, length: int, old: Value | None, value: Value | None, added: int
    ) -> None:
        """Undo a connection: the node had ``length`` inputs, and read ``old`` instead."""
        node, slot = use
        self.added = added
        if value is not None:
            value.readers.pop((node.key, slot))
        node.inputs[slot] = old
        del node.inputs[length:]
        if old is not None:
            old.readers[node.key, slot] = use

    def _kept_for(self, value: Value, *, readers: int) -> int:
        """Return what the file has for a tensor that has so many readers, and nothing if more."""
        if len(value.readers) != readers or value.is_output:
            return 0
        outer = self._arguments.get(value)
        return stored_bytes(value) if outer is None else self._kept_for(outer, readers=1)

    def _replace(self, edit: Replace) -> None:
        node = self.nodes[edit.node]
        constant = edit.constant
        value = Value(edit.hint, node.graph, constant.data_type, tuple(constant.shape))
        value.source = constant
        self._connect(node, edit.slot, value)

    def _set_attribute(self, edit: SetAttribute) -> None:
        node = self.nodes[edit.node]
        self._set(node, "attrs", {**node.attrs, edit.name: edit.value})

    def _set(self, item: Node | Value, name: str, value: object) -> None:
        """Let an attribute of a node or tensor have another value."""
        self._later(partial(setattr, item, name, getattr(item, name)))
        setattr(item, name, value)

    def seal(self, node: Node) -> None:
        """Let a node take nothing in and let nothing pass."""
        self._set(node, "opaque", value=True)

    def give(self, value: Value, source: Expression) -> None:
        """Let a constant be read as another one, which is what will be written of it."""
        self._set(value, "source", source)

    def _take_over(self, new: Value, old: Value) -> None:
        """Let everyone who read ``old`` read ``new``, the graph's outputs included."""
        for use in list(old.readers.values()):
            self._connect(use.node, use.slot, new)
        outputs = old.graph.outputs if old.is_output else []
        for name in ("is_output", "captured"):
            if getattr(old, name):
                self._set(new, name, value=True)
                self._set(old, name, value=False)
        for index, value in enumerate(outputs):
            if value is old:
                outputs[index] = new
                self._later(partial(outputs.__setitem__, index, old))

    def _take_out(self, node: Node, stays: Value, goes: Value, *, renames: bool) -> bool:
        """Let a tensor be read in the place of what a node makes, under its name if it renames."""
        self._disconnect(node)
        if renames:
            self._set(stays, "name", goes.name)
        self._take_over(stays, goes)
        self._set(node, "removed", value=True)
        return renames

    def _insert(self, edit: Insert) -> None:
        before = self.nodes[edit.node]
        value = before.outputs[edit.output]
        if value is None:
            raise AssertionError("an output that is left out has no readers to insert before")
        graph = before.graph
        node = self._new_node(edit.op, graph, edit.hint, {})
        result = Value(value.name, graph, value.data_type, value.shape, value.doubtful, node)
        node.outputs.append(result)
        self._take_over(result, value)
        constant = Value(edit.hint, graph, edit.constant.data_type, tuple(edit.constant.shape))
        constant.source = edit.constant
        self._connect(node, 0, value)
        self._connect(node, 1, constant)

    def _convert(self, edit: Convert) -> None:
        before = self.nodes[edit.node]
        value = before.out
        node = self._new_node("Cast", before.graph, edit.hint, {"to": edit.to})
        result = Value(value.name, before.graph, edit.to, value.shape, value.doubtful, node)
        node.outputs.append(result)
        self._take_over(result, value)
        self._connect(node, 0, value)

    def _divide(self, edit: Divide) -> None:
        node = self.nodes[edit.node]
        x, statistics = node.operand(0), node.inputs[3:5]
        first = self._new_node(node.op, node.graph, node.title, {"epsilon": epsilon_of(node)})
        name = f"{node.out.name}_normalized"
        result = Value(name, node.graph, x.data_type, x.shape, x.doubtful, first)
        first.outputs.append(result)
        self._connect(first, 0, x)
        for slot, constant in enumerate(edit.constants[:2], 1):
            self._replace(Replace(first.key, slot, constant, node.operand(slot).name))
        for slot, value in enumerate(statistics, 3):
            self._connect(first, slot, value)
        self._connect(node, 0, result)
        for slot, constant in enumerate(edit.constants[2:], 3):
            self._replace(Replace(node.key, slot, constant, node.operand(slot).name))
        self._set_attribute(SetAttribute(node.key, "epsilon", 0.0))
        self.note(self.divided, first.key, node.key)

    def _duplicate(self, edit: Duplicate) -> None:
        node = self.nodes[edit.node]
        value = node.out
        copy = self._new_node(node.op, node.graph, node.title, node.attrs)
        copy.domain = node.domain
        result = Value(value.name, node.graph, value.data_type, value.shape, value.doubtful, copy)
        copy.outputs.append(result)
        for slot, operand in enumerate(node.inputs):
            self._connect(copy, slot, operand)
        self._take_over(result, value)
        self._connect(self.nodes[edit.reader], edit.slot, value)

    def _new_node(self, op: str, graph: Graph, name: str, attrs: dict[str, Any]) -> Node:
        """Add a node to a graph."""
        keys = self.network.keys
        node = Node(self.network.next_key(), op, "", name, dict(attrs), graph)
        graph.nodes.append(node)
        self.nodes[node.key] = node

        def undo() -> None:
            graph.nodes.remove(node)
            del self.nodes[node.key]
            self.network.keys = keys

        self._later(undo)
        return node

    def _omit(self, edit: Omit) -> None:
        node = self.nodes[edit.node]
        last = len(node.inputs) - 1
        for slot in range(edit.slot, last):
            self._connect(node, slot, node.inputs[slot + 1])
        self._connect(node, last, None)
        node.inputs.pop()
        self._later(lambda: node.inputs.append(None))

    def _bypass(self, edit: Bypass) -> bool:
        node = self.nodes[edit.node]
        value, result = node.input(edit.slot), node.outputs[0]
        if value is None or result is None:
            raise AssertionError("a node without that input and output can't be bypassed")
        renames = takes_name(value, node)
        if result.is_output and not renames:
            raise AssertionError(f"{result.name} is an output: its node {node.title} can't go")
        return self._take_out(node, value, result, renames=renames)

    def _merge(self, edit: Merge) -> bool:
        node, into = self.nodes[edit.node], self.nodes[edit.into]
        return self._take_out(node, into.out, node.out, renames=node.out.is_output)

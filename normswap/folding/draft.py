"""A plan in the making: edits tried on a mirror of the model, and records of what they are for.

All of it is in one journal, so that what ends in a block is taken back as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from normswap.folding.edits import (
    Bypass,
    Duplicate,
    Edit,
    Insert,
    Merge,
    Omit,
    Replace,
    SetAttribute,
    Specialise,
)
from normswap.folding.legacy import recorded
from normswap.folding.plan import Folded
from normswap.graph.network import Network, Node, Use, Value
from normswap.graph.reasons import Blocked
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

    Attributes
    ----------
    edits : list of Edit
        In the order in which they were made.
    records : dict
        What was found in each graph, by the key of its last node.
    begun : dict of Graph to int
        When a graph was first looked at.
    merged : dict of int to tuple of str
        Titles of what a Conv took in, by its key.
    specialised : dict of int to int
        The key of the first node of the copy that a call has, by the key of the call.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: dict[int, Node] = {node.key: node for node in network.nodes()}
        self.edits: list[Edit] = []
        self.records: dict[Graph, dict[int, Record]] = {}
        self.begun: dict[Graph, int] = {}
        self.merged: dict[int, tuple[str, ...]] = {}
        self.specialised: dict[int, int] = {}
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
        """Note what is known of a normalization by now."""
        table = self.records[record.whole.graph]
        self.note(table, record.whole.key, replace(record, **changes))

    def left(self, graph: Graph) -> list[Record]:
        """Return what is not folded in a graph, in the order in which it is best folded.

        Each by itself, a BatchNormalization goes into arithmetic before it and not vice versa.
        """
        records = [r for r in self.records[graph].values() if not isinstance(r.fate, Folded)]
        return sorted(records, key=lambda record: not record.whole.is_batchnorm)

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
                case Duplicate():
                    self._duplicate(edit)
                case Omit():
                    self._omit(edit)
                case Specialise():  # to share a copy that is there
                    self.note(self.specialised, edit.node, edit.first)
                case Bypass():
                    done = replace(edit, renames=self._bypass(edit))
                case Merge():
                    done = replace(edit, renames=self._merge(edit))
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

        def undo() -> None:
            del self.network.graphs[known:]
            for node in nodes:
                del self.nodes[node.key]
            self.network.keys = edit.first

        self._later(undo)
        self.commit([edit])

    def _connect(self, node: Node, slot: int, value: Value | None) -> None:
        """Let an input of a node read another tensor."""
        length, old, key = len(node.inputs), node.input(slot), (node.key, slot)
        use = Use(node, slot)
        node.inputs.extend([None] * (slot + 1 - length))
        node.inputs[slot] = value
        if old is not None:
            old.readers.pop(key)
        if value is not None:
            value.readers[key] = use

        def undo() -> None:
            if value is not None:
                value.readers.pop(key)
            node.inputs[slot] = old
            del node.inputs[length:]
            if old is not None:
                old.readers[key] = use

        self._later(undo)

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

    def give(self, value: Value, source: Expression) -> None:
        """Let a constant be read as another one, which is what will be written of it."""
        self._set(value, "source", source)

    def _take_over(self, new: Value, old: Value) -> None:
        """Let everyone who read ``old`` read ``new``, the graph's outputs included."""
        for use in list(old.readers.values()):
            self._connect(use.node, use.slot, new)
        for name in ("is_output", "captured"):
            if getattr(old, name):
                self._set(new, name, value=True)
                self._set(old, name, value=False)
        outputs = old.graph.outputs
        for index, value in enumerate(outputs):
            if value is old:
                outputs[index] = new
                self._later(partial(outputs.__setitem__, index, old))

    def _take_out(self, node: Node, stays: Value, goes: Value, *, renames: bool) -> bool:
        """Let a tensor be read in the place of what a node makes, under its name if it renames."""
        for slot in range(len(node.inputs)):
            self._connect(node, slot, None)
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

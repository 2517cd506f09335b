"""Edits tried on the planner's mirror of a graph, and taken back where a route ends in a block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from normswap.folding.edits import (
    Bypass,
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
from normswap.folding.legacy import recorded
from normswap.graph.network import Network, Node, Use, Value
from normswap.graph.removal import takes_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from normswap.graph.network import Graph

Undo = Callable[[], object]


class Draft:
    """A network under edit, with its history.

    Parameters
    ----------
    network : Network
        Is changed by :meth:`commit`, and changed back by :meth:`rollback`.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: dict[int, Node] = {node.key: node for node in network.nodes()}
        self.edits: list[Edit] = []
        self._undo: list[tuple[int, Undo]] = []  # how many edits there were, and how to go back

    def mark(self) -> int:
        """Return a point in the history, for :meth:`rollback`."""
        return len(self.edits)

    def rollback(self, mark: int) -> None:
        """Take back every edit that came after ``mark``."""
        while self._undo and self._undo[-1][0] >= mark:
            self._undo.pop()[1]()
        del self.edits[mark:]

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
                case Specialise():
                    pass  # to share a copy that is there
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
        self.edits.append(edit)

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

        def undo() -> None:
            del caller.nodes[len(caller.nodes) - len(body.nodes) :]
            del caller.subgraphs[len(caller.subgraphs) - len(body.subgraphs) :]
            del self.network.graphs[known:]
            for node in nodes:
                del self.nodes[node.key]
            self.network.keys = edit.first

        self._later(undo)
        for slot, value in enumerate(body.inputs):
            argument = call.input(slot)
            for use in list(value.readers.values()):
                self._connect(use.node, use.slot, argument)
            if argument is not None and value.captured and not argument.captured:
                argument.captured = True
                self._later(partial(setattr, argument, "captured", False))
        for slot in range(len(call.inputs)):
            self._connect(call, slot, None)
        for value in body.outputs:
            value.is_output = False
        for value, result in zip(body.outputs, call.outputs, strict=False):
            if result is not None:
                value.name = result.name
                self._take_over(value, result)
        call.removed = True
        self._later(lambda: setattr(call, "removed", False))
        self.edits.append(edit)

    def _later(self, undo: Undo) -> None:
        self._undo.append((len(self.edits), undo))

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
        old = node.attrs
        node.attrs = {**old, edit.name: edit.value}
        self._later(lambda: setattr(node, "attrs", old))

    def _take_over(self, new: Value, old: Value) -> None:
        """Let everyone who read ``old`` read ``new``, the graph's outputs included."""
        for use in list(old.readers.values()):
            self._connect(use.node, use.slot, new)
        before = (new.is_output, new.captured, old.is_output, old.captured)
        outputs = list(old.graph.outputs)
        new.is_output, new.captured = new.is_output or old.is_output, new.captured or old.captured
        old.is_output = old.captured = False
        old.graph.outputs[:] = [new if value is old else value for value in outputs]

        def undo() -> None:
            new.is_output, new.captured, old.is_output, old.captured = before
            old.graph.outputs[:] = outputs

        self._later(undo)

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
        for slot in range(len(node.inputs)):
            self._connect(node, slot, None)
        renames = takes_name(value, node)
        if result.is_output and not renames:
            raise AssertionError(f"{result.name} is an output: its node {node.title} can't go")
        if renames:
            name = value.name
            value.name = result.name
            self._later(lambda: setattr(value, "name", name))
        self._take_over(value, result)
        node.removed = True
        self._later(lambda: setattr(node, "removed", False))
        return renames

    def _merge(self, edit: Merge) -> bool:
        node, into = self.nodes[edit.node], self.nodes[edit.into]
        stays, goes = into.out, node.out
        for slot in range(len(node.inputs)):
            self._connect(node, slot, None)
        renames = goes.is_output
        if renames:
            name = stays.name
            stays.name = goes.name
            self._later(lambda: setattr(stays, "name", name))
        self._take_over(stays, goes)
        node.removed = True
        self._later(lambda: setattr(node, "removed", False))
        return renames

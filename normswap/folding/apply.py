"""Carry out a plan on a model: the only module that edits a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from normswap.folding.edits import (
    Bypass,
    Convert,
    Divide,
    Duplicate,
    Inline,
    Insert,
    Merge,
    Omit,
    Replace,
    SetAttribute,
    Specialise,
)
from normswap.folding.functions import drop_unread_inputs, reachable
from normswap.folding.inlining import put_in_place
from normswap.folding.passes.dividing import LAYER
from normswap.graph.build import all_graphs, gs_nodes, with_nested
from normswap.graph.names import Names
from normswap.graph.unread import drop_unread
from normswap.model import make_constant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from normswap.folding.plan import Plan
    from normswap.model import Model


def apply_plan(plan: Plan, model: Model) -> None:
    """Edit the graphs of a model as planned.

    Parameters
    ----------
    plan : Plan
    model : Model
        The model that was planned for, not edited since.

    Raises
    ------
    ModelError
        If the model is not the one that was planned for.
    """
    model.require(plan.fingerprint)
    if plan.assume_constant:
        model.constant_inputs.update(model.overridable)
    surgeon = _Surgeon(model)
    surgeon.copy_functions(edit for edit in plan.edits if isinstance(edit, Specialise | Inline))
    for edit in plan.edits:
        match edit:
            case Replace():
                surgeon.replace(edit)
            case SetAttribute():
                surgeon.nodes[edit.node].attrs[edit.name] = edit.value
            case Insert():
                surgeon.insert(edit)
            case Convert():
                surgeon.convert(edit)
            case Specialise():
                surgeon.specialise(edit)
            case Inline():
                surgeon.inline(edit)
            case Divide():
                surgeon.divide(edit)
            case Duplicate():
                surgeon.duplicate(edit)
            case Omit():
                surgeon.nodes[edit.node].inputs.pop(edit.slot)
            case Bypass():
                surgeon.bypass(edit)
            case Merge():
                surgeon.merge(edit)
    surgeon.finish()


class _Copy:
    """A function that is specialised, the calls of it, and the names of the inputs it reads."""

    def __init__(self, function: gs.Function) -> None:
        self.function = function
        self.calls: list[gs.Node] = []
        self.read = {tensor.name for tensor in function.inputs if tensor.outputs}


class _Surgeon:
    """Carries out edits on the graphsurgeon graphs of a model.

    Node lists are rebuilt once at the end, so that an edit costs the same in a graph of any size.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.nodes: dict[int, gs.Node] = dict(enumerate(gs_nodes(model)))
        self.names = Names(model)
        self.preceding: dict[int, gs.Node] = {}  # by id of the node behind
        self.inserted: dict[int, list[gs.Node]] = {}  # by id of the node before
        self.converted: set[int] = set()  # ids of nodes behind a Cast that was inserted
        self.removed: set[int] = set()  # ids of nodes
        self.released: list[gs.Tensor] = []  # what an edit stopped reading
        self.copies: dict[int, _Copy] = {}  # by first key
        self.bodies: dict[int, gs.Function] = {}  # of calls that are inlined, by first key
        self.reachable = reachable(model)

    def replace(self, edit: Replace) -> None:
        node = self.nodes[edit.node]
        while len(node.inputs) <= edit.slot:
            node.inputs.append(gs.Variable.empty())
        self.released.append(node.inputs[edit.slot])
        node.inputs[edit.slot] = make_constant(self.names.folded(edit.hint), edit.constant)

    def insert(self, edit: Insert) -> None:
        before = self.nodes[edit.node]
        value = before.outputs[edit.output]
        # The new node takes over the tensor and its name; what comes into it gets a fresh one.
        raw = gs.Variable(self.names.fresh(f"{value.name}_{edit.op.lower()}"))
        if id(before) not in self.converted:
            raw.dtype, raw.shape = value.dtype, value.shape
        before.outputs[edit.output] = raw
        constant = make_constant(self.names.folded(edit.hint), edit.constant)
        node = gs.Node(edit.op, self.names.fresh(edit.hint), {}, [raw, constant], [value])
        self.inserted.setdefault(id(before), []).append(node)
        self.nodes[len(self.nodes)] = node
        if id(before) in self.converted:
            self.converted.add(id(node))

    def convert(self, edit: Convert) -> None:
        before = self.nodes[edit.node]
        value = before.outputs[0]
        raw = before.outputs[0] = gs.Variable(self.names.fresh(f"{value.name}_cast"))
        name = self.names.fresh(edit.hint)
        node = gs.Node("Cast", name, {"to": edit.to}, [raw], [value])
        self.inserted.setdefault(id(before), []).append(node)
        self.nodes[len(self.nodes)] = node
        self.converted.add(id(node))

    def divide(self, edit: Divide) -> None:
        node = self.nodes[edit.node]
        x, y = node.inputs[0], node.outputs[0]
        scale, bias, mean, var = (
            make_constant(self.names.folded(node.inputs[slot].name), constant)
            for slot, constant in enumerate(edit.constants, 1)
        )
        normalized = gs.Variable(self.names.fresh(f"{y.name}_normalized"), x.dtype, x.shape)
        first = gs.Node(
            node.op,
            self.names.fresh(f"{node.name or y.name}_statistics"),
            {name: value for name, value in node.attrs.items() if name == "epsilon"},
            [x, scale, bias, *node.inputs[3:5]],
            [normalized],
        )
        for slot, tensor in ((0, normalized), (3, mean), (4, var)):
            node.inputs[slot] = tensor
        node.attrs["epsilon"] = 0.0
        node.attrs[LAYER] = edit.node  # by which a copy in a function is known from the others
        self.preceding[id(node)] = first
        self.nodes[len(self.nodes)] = first

    def duplicate(self, edit: Duplicate) -> None:
        node, reader = self.nodes[edit.node], self.nodes[edit.reader]
        value = node.outputs[0]
        own = gs.Variable(self.names.fresh(f"{value.name}_own"), value.dtype, value.shape)
        node.outputs[0] = own
        copy = gs.Node(
            node.op,
            self.names.fresh(node.name or node.op),
            dict(node.attrs),
            list(node.inputs),
            [value],
            node.domain,
        )
        reader.inputs[edit.slot] = own
        self.inserted.setdefault(id(node), []).append(copy)
        self.nodes[len(self.nodes)] = copy

    def bypass(self, edit: Bypass) -> None:
        node = self.nodes[edit.node]
        value, result = node.inputs[edit.slot], node.outputs[0]
        self.remove(node)
        if edit.renames:
            producer = value.inputs[0]
            producer.outputs[_position(producer.outputs, value)] = result
        else:
            _redirect(result, value)

    def merge(self, edit: Merge) -> None:
        node, into = self.nodes[edit.node], self.nodes[edit.into]
        stays, goes = into.outputs[0], node.outputs[0]
        self.remove(node)
        if edit.renames:
            _redirect(stays, goes)
            into.outputs[0] = goes
        else:
            _redirect(goes, stays)

    def remove(self, node: gs.Node) -> None:
        self.released += node.inputs
        node.inputs.clear()
        node.outputs.clear()
        self.removed.add(id(node))

    def copy_functions(self, edits: Iterable[Specialise | Inline]) -> None:
        """Copy the functions that are specialised or inlined, before anything in them is edited."""
        for edit in edits:
            if edit.first not in self.copies and edit.first not in self.bodies:
                original = self.model.graph.functions[edit.function]
                copy = original.copy()
                copy.attrs = dict(original.attrs)  # the very values: they are not changed
                if isinstance(edit, Inline):
                    self.bodies[edit.first] = copy
                    continue
                copy.name = self.names.fresh(f"{original.name}_specialised")
                self.copies[edit.first] = _Copy(copy)

    def specialise(self, edit: Specialise) -> None:
        copy = self.copies[edit.first]
        if not copy.calls:
            self.model.graph.functions.append(copy.function)
            nodes = (node for graph in with_nested(copy.function) for node in graph.nodes)
            self.nodes.update(enumerate(nodes, edit.first))
        call = self.nodes[edit.node]
        call.op = copy.function.name
        copy.calls.append(call)

    def inline(self, edit: Inline) -> None:
        call, body = self.nodes[edit.node], self.bodies[edit.first]
        self.nodes.update(
            enumerate((node for g in with_nested(body) for node in g.nodes), edit.first)
        )
        put_in_place(body, call, self.names)
        self.remove(call)
        self.inserted.setdefault(id(call), []).extend(reversed(body.nodes))

    def prune_functions(self) -> None:
        """Drop what has no reader any more: inputs of copies, and functions."""
        for copy in self.copies.values():
            drop_unread_inputs(copy.function, copy.calls, copy.read)
        orphans = self.reachable - reachable(self.model)
        functions = self.model.graph.functions
        functions[:] = [function for function in functions if id(function) not in orphans]

    def finish(self) -> None:
        """Bring the node lists of all graphs up to date."""
        for graph in all_graphs(self.model):
            graph.nodes = [
                node
                for original in graph.nodes
                for node in self._with_inserted(original)
                if id(node) not in self.removed
            ]
        drop_unread(self.released, self.model)
        if self.copies or self.bodies:
            self.prune_functions()

    def _with_inserted(self, node: gs.Node) -> Iterator[gs.Node]:
        """Yield a node and what was inserted around it, the last insertion nearest to it."""
        if id(node) in self.preceding:
            yield from self._with_inserted(self.preceding[id(node)])
        yield node
        for after in reversed(self.inserted.get(id(node), [])):
            yield from self._with_inserted(after)


def _redirect(old: gs.Tensor, new: gs.Tensor) -> None:
    """Let every node that reads one tensor read another."""
    for reader in list(old.outputs):
        for slot, operand in enumerate(reader.inputs):
            if operand is old:
                reader.inputs[slot] = new


def _position(tensors: Iterable[gs.Tensor], tensor: gs.Tensor) -> int:
    """Return where a tensor is in a list; graphsurgeon compares by name, so index() won't do."""
    return next(index for index, other in enumerate(tensors) if other is tensor)

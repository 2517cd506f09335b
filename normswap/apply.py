"""Carry out a plan on a model: the only module that edits a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from normswap.edits import Bypass, Insert, Replace, SetAttribute
from normswap.errors import ModelError
from normswap.graph import all_graphs, gs_nodes
from normswap.model import make_constant
from normswap.names import Names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from normswap.model import Model
    from normswap.plan import Plan


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
    if model.fingerprint() != plan.fingerprint:
        raise ModelError(
            f"The plan was not made for {model.name}, or the model has changed since.",
            tip="Plan again on the model that is to be rewritten.",
        )
    surgeon = _Surgeon(model)
    for edit in plan.edits:
        match edit:
            case Replace():
                surgeon.replace(edit)
            case SetAttribute():
                surgeon.nodes[edit.node].attrs[edit.name] = edit.value
            case Insert():
                surgeon.insert(edit)
            case Bypass():
                surgeon.bypass(edit)
    surgeon.finish()


class _Surgeon:
    """Carries out edits on the graphsurgeon graphs of a model.

    Node lists are rebuilt once at the end, so that an edit costs the same in a graph of any size.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.nodes: dict[int, gs.Node] = dict(enumerate(gs_nodes(model)))
        self.names = Names(model)
        self.outputs = {id(t) for graph in all_graphs(model) for t in graph.outputs}
        self.inserted: dict[int, list[gs.Node]] = {}  # by id of the node before
        self.removed: set[int] = set()  # ids of nodes
        self.released: list[gs.Tensor] = []  # what an edit stopped reading

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
        raw = gs.Variable(
            self.names.fresh(f"{value.name}_{edit.op.lower()}"), value.dtype, value.shape
        )
        before.outputs[edit.output] = raw
        constant = make_constant(self.names.folded(edit.hint), edit.constant)
        node = gs.Node(edit.op, self.names.fresh(edit.hint), {}, [raw, constant], [value])
        self.inserted.setdefault(id(before), []).append(node)
        self.nodes[len(self.nodes)] = node

    def bypass(self, edit: Bypass) -> None:
        node = self.nodes[edit.node]
        value, result = node.inputs[edit.slot], node.outputs[0]
        self.remove(node)
        if edit.renames:
            producer = value.inputs[0]
            producer.outputs[_position(producer.outputs, value)] = result
        else:
            for reader in list(result.outputs):
                for slot, operand in enumerate(reader.inputs):
                    if operand is result:
                        reader.inputs[slot] = value

    def remove(self, node: gs.Node) -> None:
        self.released += node.inputs
        node.inputs.clear()
        node.outputs.clear()
        self.removed.add(id(node))

    def sweep(self) -> None:
        """Remove nodes that nobody reads any more, such as those that computed a folded weight."""
        while self.released:
            tensor = self.released.pop()
            for node in list(tensor.inputs):
                if not any(out.outputs or id(out) in self.outputs for out in node.outputs):
                    self.remove(node)

    def finish(self) -> None:
        """Bring the node lists of all graphs up to date."""
        self.sweep()
        for graph in all_graphs(self.model):
            graph.nodes = [
                node
                for original in graph.nodes
                for node in self._with_inserted(original)
                if id(node) not in self.removed
            ]

    def _with_inserted(self, node: gs.Node) -> Iterator[gs.Node]:
        """Yield a node and what was inserted after it, the last insertion nearest to it."""
        yield node
        for after in reversed(self.inserted.get(id(node), [])):
            yield from self._with_inserted(after)


def _position(tensors: Iterable[gs.Tensor], tensor: gs.Tensor) -> int:
    """Return where a tensor is in a list; graphsurgeon compares by name, so index() won't do."""
    return next(index for index, other in enumerate(tensors) if other is tensor)

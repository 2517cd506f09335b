"""What is made in a body (of If, Loop, Scan), handed out of it to the main graph turn by turn.

A vector in a body becomes one of the main graph that holds those of all turns, one behind the
other: what a Loop makes is carried from turn to turn, so that each may be of another length; a
branch that is not taken adds nothing, or what it is told to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from normswap.graph.adding import added
from normswap.graph.build import all_graphs
from normswap.model import ArrayTensor, make_constant
from normswap.semantics.families import BODIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from normswap.graph.names import Names
    from normswap.model import Model


class Turns:
    """The edits that hand vectors out of the bodies of a model.

    Parameters
    ----------
    model : Model
        Without calls of functions.
    names : Names
        Of that model.
    """

    def __init__(self, model: Model, names: Names) -> None:
        self._main = model.graph
        self._names = names
        # Of every body: the node that has it, and the graph that the node is in.
        self._owners = {
            id(body): (node, graph)
            for graph in all_graphs(model)
            for node in graph.nodes
            for body in node.subgraphs()
        }

    def hindrance(self, graph: gs.Graph, *, varying: bool = False) -> str:
        """Say why nothing can be handed out of a body; empty where it can.

        Parameters
        ----------
        graph : gs.Graph
        varying : bool
            Whether it may be of another length in every turn.
        """
        inner = ""
        while graph is not self._main:
            owner, around = self._owners[id(graph)]
            if owner.op not in BODIES or (owner.domain or "") not in ("", "ai.onnx"):
                return (
                    f"it is in a subgraph of {owner.op} {owner.name}, whose tensors can't be read"
                )
            if owner.op == "Scan" and (around.opset or 0) < 9:
                return (
                    f"it is in Scan {owner.name} of an opset before 9, whose tensors can't be read"
                )
            if owner.op == "Scan" and inner and varying:
                return f"it is in {inner} inside Scan {owner.name}, which takes no varying lengths"
            inner = inner if owner.op == "Scan" else f"{owner.op} {owner.name}"
            graph = around
        return ""

    def hand_out(
        self,
        tensor: gs.Variable,
        graph: gs.Graph,
        nothing: Callable[[gs.Graph], gs.Variable] | None = None,
    ) -> gs.Variable:
        """Return the tensor of the main graph that holds a vector of a body, turn by turn.

        Parameters
        ----------
        tensor : gs.Variable
            One-dimensional, of known type.
        graph : gs.Graph
            That makes it.
        nothing : callable, optional
            Adds to a graph what stands for a branch that was not taken; an empty vector, if it is
            left out.
        """
        while graph is not self._main:
            owner, around = self._owners[id(graph)]
            if owner.op == "Loop":
                tensor = self._carried(tensor, graph, owner)
            else:
                for body in owner.subgraphs():
                    other = nothing or self._empty(tensor.dtype)
                    body.outputs.append(tensor if body is graph else other(body))
                _fill(owner.outputs, len(graph.outputs) - 1)
                shown = self._variable(tensor)
                owner.outputs.append(shown)
                tensor = shown
            if owner.op == "Scan":
                for name in ("scan_output_axes", "scan_output_directions"):
                    if name in owner.attrs:
                        owner.attrs[name] = [*owner.attrs[name], 0]
                tensor = self._op(around, "Reshape", [tensor, self._constant(np.array([-1]))])
            graph = around
        return tensor

    def _carried(self, tensor: gs.Variable, body: gs.Graph, owner: gs.Node) -> gs.Variable:
        """Let a Loop carry a vector on, which every turn adds to."""
        states = len(body.inputs) - 2
        _fill(owner.inputs, 2)
        owner.inputs.append(self._constant(np.zeros(0, tensor.dtype)))
        before = self._variable(tensor)
        body.inputs.append(before)
        whole = self._op(body, "Concat", [before, tensor], axis=0)
        body.outputs.insert(1 + states, whole)  # behind the condition and what else is carried
        _fill(owner.outputs, states)
        shown = self._variable(tensor)
        owner.outputs.insert(states, shown)
        return shown

    def _empty(self, dtype: np.dtype) -> Callable[[gs.Graph], gs.Variable]:
        empty = self._constant(np.zeros(0, dtype))
        return lambda graph: self._op(graph, "Identity", [empty])

    def _op(self, graph: gs.Graph, op: str, inputs: list[gs.Tensor], **attrs: int) -> gs.Variable:
        dtype = next(tensor.dtype for tensor in inputs if tensor.dtype is not None)
        return added(graph, self._names, f"turns/{op}", inputs, dtype, is_vector=True, **attrs)

    def _constant(self, values: np.ndarray) -> gs.Constant:
        return make_constant(self._names.fresh("turns/constant"), ArrayTensor(values))

    def _variable(self, like: gs.Variable) -> gs.Variable:
        return gs.Variable(self._names.fresh(f"{like.name}/turns"), like.dtype, (None,))


def _fill(tensors: list[gs.Tensor], count: int) -> None:
    """Let what was left out at the end of a list be left out by name."""
    while len(tensors) < count:
        tensors.append(gs.Variable.empty())

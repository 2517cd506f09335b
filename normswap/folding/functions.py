"""Model-local functions, specialised for the calls that give them constants.

A normalization in the body of a function folds in place if its statistics and the weights around it
are constants of the body. Where they are arguments (or an attribute is, or only the call knows the
ranks), the body is planned once more for the call, with what is known there; if that folds more,
the call gets a copy of the function, and all others keep the one they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from normswap.graph.build import Builder, function_path
from normswap.graph.evaluate import constant_source
from normswap.graph.reasons import unless_blocked
from normswap.graph.shapes import function_key, infer_call_types
from normswap.graph.sizes import DOUBT, TensorType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import onnx_graphsurgeon as gs

    from normswap.graph.network import Graph, Network, Node, Value
    from normswap.model import Model, TensorSource

Signature = tuple[object, ...]


def overload_of(node: gs.Node) -> str:
    """Return which of several functions of one name a node calls, or a function is."""
    proto = getattr(node, "proto", None)
    return "" if proto is None else str(proto.overload)


@dataclass(frozen=True, slots=True)
class Callee:
    """What a call asks a function to be.

    Attributes
    ----------
    number : int
        Place of the function in the model.
    signature : tuple
        Equal for calls that can share a copy.
    """

    number: int
    signature: Signature


class Library:
    """The functions of a model, as the planner sees them.

    Parameters
    ----------
    model : Model
    network : Network
        Of that model; copies are added to it.
    """

    def __init__(self, model: Model, network: Network) -> None:
        self.model = model
        self.network = network
        self._numbers = {
            (function.domain or "", function.name, overload_of(function)): number
            for number, function in enumerate(model.graph.functions)
        }

    def number_of(self, node: Node) -> int | None:
        """Return which function a node calls, None if it is an operator."""
        return self._numbers.get((node.domain, node.op, node.overload))

    def callee(self, node: Node) -> Callee | None:
        """Return what a node calls and with what, None if it is an operator."""
        number = self.number_of(node)
        if number is None:
            return None
        arguments: list[object] = []
        for value in node.inputs:
            if value is None:
                arguments.append(None)
                continue
            source = unless_blocked(constant_source, value)
            constant = None if source is None else id(source)
            # An identity stays valid: the tensor of the call keeps its source.
            kind = (value.data_type, value.shape, value.doubtful)
            arguments.append((constant, value.overridable, *kind))
        attributes = tuple(sorted((name, repr(value)) for name, value in node.attrs.items()))
        return Callee(number, (number, tuple(arguments), attributes))

    def instantiate(self, node: Node, number: int) -> list[Graph]:
        """Add the body of a function once more, as it is for one call.

        Returns
        -------
        list of Graph
            The body first, then its subgraphs.
        """
        function = self.model.graph.functions[number]
        attributes = {k: v for k, v in function.attrs.items() if v is not None} | node.attrs
        constants: dict[int, TensorSource] = {}
        for index, value in enumerate(node.inputs):
            source = None if value is None else unless_blocked(constant_source, value)
            if source is not None:
                constants[index] = source
        arguments = [
            TensorType(None, None) if value is None else _believed(value, slot)
            for slot, value in enumerate(node.inputs)
        ]
        opset = function.opset or node.opset
        types = infer_call_types(self.model, number, arguments, constants, attributes, opset)
        builder = Builder(self.network, types, {}, attributes)
        start = len(self.network.graphs)
        path = f"{function_path(function)} of {node.title}"
        body = builder.add(function, path, function_key(number), None)
        for inner, outer in zip(body.inputs, node.inputs, strict=False):
            if outer is not None:
                inner.source, inner.overridable = outer.source, outer.overridable
                inner.data_type, inner.shape = outer.data_type, outer.shape
                inner.doubtful = outer.doubtful
        return self.network.graphs[start:]

    def calls(self, graphs: Iterable[Graph]) -> Iterator[tuple[Node, int]]:
        """Yield the nodes that call a function, in order, and which."""
        for graph in graphs if self._numbers else ():
            for node in graph.topological():
                number = None if node.removed else self.number_of(node)
                if number is not None:
                    yield node, number


def _believed(value: Value, slot: int) -> TensorType:
    """Return the type of an argument, its sizes in doubt by name: so the doubt is handed on."""
    shape = value.shape and tuple(
        f"{DOUBT}{slot}/{axis}" if axis in value.doubtful else size
        for axis, size in enumerate(value.shape)
    )
    return TensorType(value.data_type, shape)


def drop_unread_inputs(function: gs.Function, calls: Iterable[gs.Node], read: set[str]) -> None:
    """Take inputs out of a copy, and of the calls of it, that nobody reads any more.

    Parameters
    ----------
    function : gs.Function
    calls : iterable of gs.Node
        All nodes that call it.
    read : set of str
        The inputs that were read before.
    """
    outputs = {id(tensor) for tensor in function.outputs}
    gone = [
        index
        for index, tensor in enumerate(function.inputs)
        if tensor.name in read and not tensor.outputs and id(tensor) not in outputs
    ]
    nodes = list(calls)
    for index in reversed(gone):
        del function.inputs[index]
        for node in nodes:
            if index < len(node.inputs):
                del node.inputs[index]


def reachable(model: Model) -> set[int]:
    """Return the ids of the functions that are called, directly or by others, in the main graph."""
    functions: dict[Any, gs.Function] = {
        (function.domain or "", function.name, overload_of(function)): function
        for function in model.graph.functions
    }
    found: set[int] = set()
    pending: list[gs.Graph] = [model.graph]
    while pending:
        for node in pending.pop().nodes:
            pending.extend(node.subgraphs())
            function = functions.get((node.domain or "", node.op, overload_of(node)))
            if function is not None and id(function) not in found:
                found.add(id(function))
                pending.append(function)
    return found

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
from normswap.graph.sizes import DOUBT, TensorType, is_in_doubt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import onnx_graphsurgeon as gs

    from normswap.graph.network import Graph, Network, Node, Value
    from normswap.graph.sizes import Dim
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
        self._learnt: dict[Node, dict[str, TensorType]] = {}  # by call
        self._called: dict[int, list[Node]] = {}  # by function, in so many graphs
        self._graphs = 0
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
        arguments = [
            TensorType(None, None) if value is None else _believed(value, slot)
            for slot, value in enumerate(node.inputs)
        ]
        types = self._types(node, number, arguments, attributes)
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

    def agreed(self, value: Value) -> TensorType:
        """Return element type and sizes of a tensor: in a function, those on which all calls agree.

        Sizes on which they don't agree are None, unless they are in doubt in a call; where not even
        the number of axes is the same, all are.
        """
        if value.data_type is not None and value.shape is not None:
            return _believed(value, 0)
        body = value.graph
        while body.parent is not None:
            body = body.parent
        number = next((i for i, other in enumerate(self.network.bodies) if other is body), None)
        if number is None or body is not value.graph:
            return TensorType(value.data_type, value.shape)
        found = [
            self._types_of_body(node, number).get(value.name, TensorType(None, None))
            for node in self._callers(number)
        ]
        data_types = {known.data_type for known in found}
        shapes = [known.shape for known in found]
        data_type = data_types.pop() if len(data_types) == 1 else None
        first = shapes[0] if shapes else None
        if first is None or any(shape is None or len(shape) != len(first) for shape in shapes):
            return TensorType(data_type, None)
        axes = zip(*(shape for shape in shapes if shape is not None), strict=True)
        return TensorType(data_type, tuple(map(_common, axes)))

    def _callers(self, number: int) -> list[Node]:
        """Return the nodes that call a function, those in copies of functions too."""
        graphs = self.network.graphs
        if self._graphs != len(graphs):
            self._graphs, self._called = len(graphs), {}
            for node, called in self.calls(graphs):
                self._called.setdefault(called, []).append(node)
        return self._called.get(number, [])

    def _types_of_body(self, node: Node, number: int) -> dict[str, TensorType]:
        """Return the types in a function's body, as one call of it has them."""
        if node not in self._learnt:
            arguments = [
                TensorType(None, None) if value is None else self.agreed(value)
                for value in node.inputs
            ]
            function = self.model.graph.functions[number]
            attributes = {k: v for k, v in function.attrs.items() if v is not None} | node.attrs
            types = self._types(node, number, arguments, attributes)
            found = types.get(function_key(number), {})
            named = dict(zip([tensor.name for tensor in function.inputs], arguments, strict=False))
            self._learnt[node] = {**named, **found}
        return self._learnt[node]

    def _types(
        self,
        node: Node,
        number: int,
        arguments: Sequence[TensorType],
        attributes: dict[str, Any],
    ) -> dict[str, dict[str, TensorType]]:
        """Infer the types in a function's body for a call."""
        constants: dict[int, TensorSource] = {}
        for index, value in enumerate(node.inputs):
            source = None if value is None else unless_blocked(constant_source, value)
            if source is not None:
                constants[index] = source
        opset = self.model.graph.functions[number].opset or node.opset
        return infer_call_types(self.model, number, arguments, constants, attributes, opset)

    def calls(self, graphs: Iterable[Graph]) -> Iterator[tuple[Node, int]]:
        """Yield the nodes that call a function, in order, and which."""
        for graph in graphs if self._numbers else ():
            for node in graph.topological():
                number = None if node.removed else self.number_of(node)
                if number is not None:
                    yield node, number


def _common(sizes: Sequence[Dim]) -> Dim:
    """Return a size that is the same in all calls, or is in doubt in one of them; else None."""
    doubtful = next((size for size in sizes if is_in_doubt(size)), None)
    return doubtful or (sizes[0] if len(set(sizes)) == 1 and isinstance(sizes[0], int) else None)


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

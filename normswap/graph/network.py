"""The planner's view of a model: questions to a graph, answered in constant time.

A :class:`Network` is built once from the onnx-graphsurgeon graphs of a model and mirrors them: who
makes a tensor, who reads it, is it an output, is it constant. The planner tries its edits on the
mirror (:mod:`normswap.folding.draft`), never on the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx_graphsurgeon as gs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from normswap.graph.sizes import Dim
    from normswap.model import TensorSource


class Use(NamedTuple):
    """One input of one node: where a tensor is read."""

    node: Node
    slot: int


@dataclass(slots=True, eq=False)
class Value:
    """A tensor of a graph.

    Attributes
    ----------
    data_type : int or None
        ``TensorProto.DataType``, None where unknown.
    shape : tuple or None
        An int where a dimension is static, a name where it is symbolic, None where unknown; None as
        a whole where even the rank is.
    doubtful : frozenset of int
        The axes whose size ONNX may infer otherwise than runtimes make it
        (:mod:`normswap.graph.sizes`), although :attr:`shape` may say what they make, since the
        parameters of a normalization tell. A constant that has elements along one is refused by
        whoever infers sizes as ONNX does.
    producer : Node or None
        None for graph inputs and initializers.
    readers : dict
        The uses of the tensor in nodes of any graph, in graph order.
    captured : bool
        Whether a subgraph of :attr:`graph` reads the tensor.
    source : TensorSource or None
        The values of an initializer.
    overridable : bool
        Whether a caller of the model may replace the initializer (it is listed as a graph input).
    varies_with : Value or None
        Where :mod:`normswap.graph.evaluate` has found the tensor not to be constant, why: the first
        tensor whose value no constants determine (a graph input, say), which is this one or one
        that it is computed from. None where it is constant, or nobody has asked.
    partial : ndarray or None
        Where it is not constant, but some of its elements are (:mod:`normswap.graph.partial`).
    """

    name: str
    graph: Graph
    data_type: int | None = None
    shape: tuple[Dim, ...] | None = None
    doubtful: frozenset[int] = frozenset()
    producer: Node | None = None
    readers: dict[tuple[int, int], Use] = field(default_factory=dict)
    is_output: bool = False
    captured: bool = False
    source: TensorSource | None = None
    overridable: bool = False
    varies_with: Value | None = None
    partial: npt.NDArray[Any] | None = None

    @property
    def rank(self) -> int | None:
        """Number of axes, None where unknown."""
        return None if self.shape is None else len(self.shape)

    def is_doubtful_along(self, shape: Sequence[Dim]) -> bool:
        """Whether a constant of a shape that is broadcast with it has elements along a doubt."""
        lead = (self.rank or 0) - len(shape)
        return any(axis >= lead and shape[axis - lead] != 1 for axis in self.doubtful)

    @property
    def is_used(self) -> bool:
        """Whether anyone would notice if it changed: a node, a subgraph, or the graph's caller."""
        return bool(self.readers or self.is_output or self.captured)

    @property
    def is_private(self) -> bool:
        """Whether one input of one node of its own graph reads it, and nobody else."""
        return len(self.readers) == 1 and not self.is_output and not self.captured


@dataclass(slots=True, eq=False)
class Node:
    """An operator of a graph.

    Attributes
    ----------
    key : int
        Number of the node, unique within the :class:`Network`.
    inputs, outputs : list of (Value or None)
        None where an optional one is left out.
    removed : bool
        Whether an edit of the draft took the node out.
    opaque : bool
        Whether no operator speaks for the node, although one has its name: it broadcasts in the
        way of opset 6 (:mod:`normswap.folding.legacy`), and it is not known how.
    overload : str
        Which of several functions of the same name the node calls, if it calls one.
    """

    key: int
    op: str
    domain: str
    name: str
    attrs: dict[str, Any]
    graph: Graph
    inputs: list[Value | None] = field(default_factory=list)
    outputs: list[Value | None] = field(default_factory=list)
    removed: bool = False
    overload: str = ""
    opaque: bool = False

    def attr(self, name: str, default: Any) -> Any:
        """Return an attribute, or what its absence means."""
        return self.attrs.get(name, default)

    def input(self, slot: int) -> Value | None:
        """Return an input; None where it is left out, in either way that ONNX has for that."""
        return self.inputs[slot] if slot < len(self.inputs) else None

    def operand(self, slot: int) -> Value:
        """Return an input that is known to be there."""
        value = self.input(slot)
        if value is None:
            raise AssertionError(f"input {slot} of {self.op} {self.title} is left out")
        return value

    def output(self, index: int) -> Value | None:
        """Return an output; None where it is left out."""
        return self.outputs[index] if index < len(self.outputs) else None

    @property
    def out(self) -> Value:
        """The first output that is not left out."""
        return next(value for value in self.outputs if value is not None)

    @property
    def is_used(self) -> bool:
        """Whether anything comes of it: an output of the graph, or what a subgraph reads."""
        pending, seen = [self], {self.key}
        while pending:
            for value in pending.pop().outputs:
                if value is not None and (value.is_output or value.captured):
                    return True
                readers = () if value is None else (use.node for use in value.readers.values())
                new = {node.key: node for node in readers if node.key not in seen}
                seen |= new.keys()
                pending += new.values()
        return False

    @property
    def opset(self) -> int:
        """Version of the default operator set that the node's graph imports."""
        return self.graph.opset

    @property
    def title(self) -> str:
        """What to call the node: its name, or that of its output where it has none."""
        return self.name or next((value.name for value in self.outputs if value), f"#{self.key}")

    @property
    def refers_to_attributes(self) -> bool:
        """Whether an attribute is a function's parameter, so that its value is not known here."""
        return any(isinstance(value, gs.Node.AttributeRef) for value in self.attrs.values())


@dataclass(slots=True, eq=False)
class Graph:
    """The main graph, a subgraph of a node, or the body of a function.

    Attributes
    ----------
    path : str
        Where it is, for people: ``""`` for the main graph, ``"If_3.then_branch"`` for a subgraph
        (one after another where nested), ``"domain:name"`` for a function.
    """

    path: str
    opset: int
    parent: Graph | None = None
    nodes: list[Node] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    subgraphs: list[Graph] = field(default_factory=list)

    def family(self) -> list[Graph]:
        """Return the graph and all that are nested in it, outer ones first."""
        found = [self]
        for graph in found:  # grows meanwhile
            found += graph.subgraphs
        return found

    def topological(self) -> list[Node]:
        """Return the nodes by depth, then by name: an order that does not depend on the file's."""
        depth: dict[int, int] = {}
        opened: set[int] = set()
        # The list itself is in order in a valid model, but for what a draft has put at its end.
        for first in self.nodes:
            pending = [first]
            while pending:
                node = pending[-1]
                makers = [value.producer for value in node.inputs if value and value.producer]
                missing = [m for m in makers if m.key not in depth and m.graph is self]
                if missing and node.key not in opened:
                    opened.add(node.key)
                    pending += missing
                else:  # if it is opened, that is for a cycle, in which any order is as good
                    depth[node.key] = 1 + max([depth.get(m.key, 1) for m in makers], default=0)
                    pending.pop()
        return sorted(self.nodes, key=lambda node: (depth[node.key], node.title, node.key))


@dataclass(slots=True, eq=False)
class Network:
    """All graphs of a model: the main graph first, then subgraphs and functions.

    Attributes
    ----------
    graphs : list of Graph
        A function's body is there once; and once more, after all others, for each call for which
        it is specialised (:mod:`normswap.folding.functions`).
    bodies : list of Graph
        Those of the functions, in the model's order.
    """

    graphs: list[Graph] = field(default_factory=list)
    bodies: list[Graph] = field(default_factory=list)
    keys: int = 0

    def next_key(self) -> int:
        """Return a number for a new node."""
        self.keys += 1
        return self.keys - 1

    def nodes(self) -> Iterator[Node]:
        """Iterate over the nodes of all graphs that are still there."""
        for graph in self.graphs:
            for node in graph.nodes:
                if not node.removed:
                    yield node

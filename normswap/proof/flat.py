"""A model as one list of nodes: functions called, branches of If laid side by side.

A name means something in its scope only, and a function something else at every call. Here every
tensor has a number of its own, whichever scope it is in, and a node reads numbers. So the proof
(:mod:`normswap.proof.prove`) needs to know nothing of scopes. What
:mod:`normswap.proof.flattening` does for that:

- Identity, Dropout in inference and a cast to the same type make no tensor: their output is their
  input.
- What onnxruntime has a fused operator for (FusedConv, FusedGemm, GroupNorm) is taken apart again.
- A call of a model-local function is the nodes of its body, its attributes filled in.
- The branches of an If are nodes like others; each of its outputs is a choice (`CHOICE`) between
  two tensors by the condition.
- The inputs of a Loop's or Scan's body are made by an `ENTRY`, whose inputs are the node's own;
  the node itself reads, after these, what its body makes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import onnx

OWN = "normswap"
"""Domain of the operators that only a flat model has."""

CHOICE = "Choice"
ENTRY = "Entry"
NONE = -1
"""Number of an input or output that is left out."""


class NotFlatError(Exception):
    """A model can't be laid flat; the message says why."""


@dataclass(slots=True, eq=False)
class FlatNode:
    """An operator.

    Attributes
    ----------
    op, domain : str
    opset : int
        The version of its domain.
    attributes : dict
        Tensors as arrays, text as str; no bodies.
    inputs, outputs : list of int
        Tensors; `NONE` where one is left out.
    proto : onnx.NodeProto
        As the file has it, its names those of its scope.
    path : tuple of str
        The nodes whose bodies or functions it is in, outermost first.
    index : int
        Its place among the nodes.
    """

    op: str
    domain: str
    opset: int
    attributes: dict[str, Any]
    inputs: list[int]
    outputs: list[int]
    proto: onnx.NodeProto
    path: tuple[str, ...] = ()
    index: int = 0

    @property
    def title(self) -> str:
        """What to call it: its operator, and its name or that of its output."""
        named = self.proto.name or next((name for name in self.proto.output if name), "")
        return " in ".join([f"{self.op} {named}".rstrip(), *reversed(self.path)])

    @property
    def is_standard(self) -> bool:
        """Whether it is of ONNX's default domain."""
        return self.domain == ""


@dataclass(slots=True, eq=False)
class Flat:
    """A model, laid flat.

    Attributes
    ----------
    folder : Path or None
        Where its external data is.
    names : list of str
        Of the tensors, by number, in their scope.
    types : list of int
        ``TensorProto.DataType``; 0 where unknown.
    makers : list of (FlatNode or None)
    tensors : dict of int to TensorProto or SparseTensorProto
        The constants.
    nodes : list of FlatNode
        In topological order.
    inputs : dict of str to int
        Those that an initializer gives a default to included.
    outputs : list of (str, int)
    named : dict of str to int
        The tensors of the main graph by name, those that Identity makes another name of included.
    ports : dict of str to onnx.ValueInfoProto
    random : set of int
        Indices of `nodes` that draw random numbers.
    between : set of int
        Tensors that are compared with none of another model.
    """

    folder: Path | None
    names: list[str] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    makers: list[FlatNode | None] = field(default_factory=list)
    tensors: dict[int, Any] = field(default_factory=dict)
    nodes: list[FlatNode] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: list[tuple[str, int]] = field(default_factory=list)
    named: dict[str, int] = field(default_factory=dict)
    ports: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)
    random: set[int] = field(default_factory=set)
    between: set[int] = field(default_factory=set)

    def add(self, name: str, data_type: int = 0, maker: FlatNode | None = None) -> int:
        """Add a tensor, and return its number."""
        self.names.append(name)
        self.types.append(data_type)
        self.makers.append(maker)
        return len(self.names) - 1

    def behind(self, first: Iterable[int]) -> set[int]:
        """Return some tensors, and all that depend on them."""
        reached = set(first)
        for node in self.nodes:
            if not reached.isdisjoint(node.inputs):
                reached.update(n for n in node.outputs if n != NONE)
        return reached

"""The few edits of which every rewrite is made.

Operators answer with edits, the planner tries them on its draft of the graph, and
:mod:`normswap.folding.apply` carries them out on the model. They name nodes by key (their number
in the planned graph, new nodes counting on), so a plan outlives the objects it was made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normswap.graph.expressions import Expression


@dataclass(frozen=True, slots=True)
class Replace:
    """A node's input becomes a new constant; other readers of the old one keep it.

    Parameters
    ----------
    node : int
        Key of the node.
    slot : int
        Which input; inputs that are left out before it stay left out.
    constant : Expression
        The new values.
    hint : str
        What the constant's name starts with.
    """

    node: int
    slot: int
    constant: Expression
    hint: str


@dataclass(frozen=True, slots=True)
class SetAttribute:
    """An attribute of a node changes its value."""

    node: int
    name: str
    value: float | int | str | list[int] | list[float]


@dataclass(frozen=True, slots=True)
class Insert:
    """A new node with one constant operand stands between a node's output and all its readers.

    Parameters
    ----------
    node : int
        Key of the node after which it stands.
    output : int
        Which of its outputs.
    op : str
        Operator of the default domain: ``op(output, constant)``.
    constant : Expression
    hint : str
        What the names of the new node and constant start with.
    """

    node: int
    output: int
    op: str
    constant: Expression
    hint: str


@dataclass(frozen=True, slots=True)
class Convert:
    """A Cast stands between a node's first output and all its readers.

    Parameters
    ----------
    node : int
        Key of the node after which it stands.
    to : int
        ``TensorProto.DataType``
    hint : str
        What the names of the new node and tensor start with.
    """

    node: int
    to: int
    hint: str


@dataclass(frozen=True, slots=True)
class Bypass:
    """A node goes, and whoever read its output reads one of its inputs.

    Parameters
    ----------
    node : int
        Key of the node.
    slot : int
        The input that takes the place of the first output.
    renames : bool
        Whether the input takes the output's name. It does where its own name is no one's concern:
        an intermediate tensor of the same graph that nobody else reads. So the names that other
        nodes and people know stay true. Decided by the draft.
    """

    node: int
    slot: int = 0
    renames: bool = False


@dataclass(frozen=True, slots=True)
class Divide:
    """A BatchNormalization becomes two: one of its statistics, and behind it one of scale and B.

    The new one has scale 1 and B 0, and the mean, var and epsilon that there were; the old one has
    mean 0, var 1 and epsilon 0.

    Parameters
    ----------
    node : int
        Key of the node.
    constants : tuple of Expression
        Scale and B of the new one, mean and var of the old one.
    """

    node: int
    constants: tuple[Expression, Expression, Expression, Expression]


@dataclass(frozen=True, slots=True)
class Omit:
    """A node of any number of operands, such as Sum, loses one; those after it move up."""

    node: int
    slot: int


@dataclass(frozen=True, slots=True)
class Merge:
    """A node goes, and whoever read its output reads that of a node that computes the same.

    Parameters
    ----------
    node : int
        Key of the node.
    into : int
        Key of the other one, which comes before it.
    renames : bool
        Whether the output that stays takes the name of the one that goes: it does where that is an
        output of the graph. Decided by the draft.
    """

    node: int
    into: int
    renames: bool = False


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A small node that several read is doubled: it stays for one input of one reader.

    The other readers get a copy of it, which takes over the name of the output.

    Parameters
    ----------
    node : int
        Key of the node.
    reader, slot : int
        Key of the reader that keeps it, and by which input.
    """

    node: int
    reader: int
    slot: int


@dataclass(frozen=True, slots=True)
class Specialise:
    """A call of a model-local function gets a copy of the function to itself.

    Parameters
    ----------
    node : int
        Key of the call.
    function : int
        Place of the function in the model.
    first : int
        Key of the first node of the copy; the others follow. Where the copy is there already, for
        an equal call before this one, it is shared.
    """

    node: int
    function: int
    first: int


@dataclass(frozen=True, slots=True)
class Inline:
    """A call of a model-local function makes way for what is in the function.

    Parameters
    ----------
    node : int
        Key of the call.
    function : int
        Place of the function in the model.
    first : int
        Key of the first node that comes; the others follow.
    """

    node: int
    function: int
    first: int


Edit = (
    Replace
    | SetAttribute
    | Insert
    | Convert
    | Bypass
    | Divide
    | Omit
    | Merge
    | Duplicate
    | Specialise
    | Inline
)

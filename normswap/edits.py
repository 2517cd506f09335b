"""The four edits of which every rewrite is made.

Operators answer with edits, the planner tries them on its draft of the graph, and
:mod:`normswap.apply` carries them out on the model. They name nodes by key (their number in the
planned graph, new nodes counting on), so a plan outlives the objects it was made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normswap.expressions import Expression


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


Edit = Replace | SetAttribute | Insert | Bypass

"""What an operator may answer to an affine that wants to travel through it.

A route is made of goals. The router asks the operator that stands at a goal, and it

- returns an :class:`Answer` of edits only: it *absorbs* the affine, the goal is reached;
- returns an :class:`Answer` with goals: it *carries* the affine, and all of them must be reached;
- raises :class:`~normswap.graph.reasons.Blocked`: it does neither, and this is what the user reads.

An operator may know several ways, best first; the first that can be completed is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normswap.folding.edits import Edit
    from normswap.graph.affine import Affine
    from normswap.graph.network import Use, Value


@dataclass(frozen=True, slots=True)
class Up:
    """The tensor read at ``use`` shall become ``affine`` of what it is, for this reader."""

    use: Use
    affine: Affine


@dataclass(frozen=True, slots=True)
class Down:
    """All readers of ``value`` shall apply ``affine`` to what they read of it."""

    value: Value
    affine: Affine


@dataclass(frozen=True, slots=True)
class Into:
    """One reader shall apply ``affine`` to what it reads."""

    use: Use
    affine: Affine


Goal = Up | Down | Into


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operator does with an affine.

    Parameters
    ----------
    edits : tuple of Edit
        Made at once, before the goals are looked at.
    goals : tuple of Goal
        Where the affine (or its parts) has to go on from here; empty where it is absorbed.
    then : tuple of Edit
        Made when all goals are reached.
    note : str
        The formula, for people: ``"W *= s, b = s*b + t"``.
    """

    edits: tuple[Edit, ...] = ()
    goals: tuple[Goal, ...] = ()
    then: tuple[Edit, ...] = ()
    note: str = ""


UNREAD = Answer(note="reads only the shape or the type")
"""Of an input of which an operator takes the shape or the type alone, whatever is in it."""

Way = Callable[[], Answer]
"""One of several answers, which is asked for where all before it have failed; or it is blocked."""

Answers = Answer | Sequence[Way]

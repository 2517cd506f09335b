"""Regions: the nodes between a tensor and others that are known."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.proof.flat import ENTRY, NONE

if TYPE_CHECKING:
    from collections.abc import Collection

    from normswap.proof.facts import Facts
    from normswap.proof.flat import FlatNode
    from normswap.proof.numbering import Side

LARGEST = 96
"""Nodes of a region, after which it is not looked at any more."""

WIDER = 2
"""Operators that a frontier may be moved up by."""

_FAR = 24  # nodes that the original's region may have more


@dataclass(frozen=True, slots=True)
class Cone:
    """What makes a tensor, back to a frontier.

    Attributes
    ----------
    target : int
    nodes : tuple of FlatNode
        In topological order.
    frontier : dict of int to int
        Tensors and their classes.
    constants : frozenset of int
        The constants that it reads.
    """

    target: int
    nodes: tuple[FlatNode, ...]
    frontier: dict[int, int]
    constants: frozenset[int]

    @property
    def own(self) -> tuple[FlatNode, ...]:
        """Its nodes without those of readings, which the model does not have."""
        return tuple(node for node in self.nodes if node.index >= 0)

    @property
    def made(self) -> list[int]:
        """What its nodes make."""
        return [n for node in self.nodes for n in node.outputs if n != NONE]

    def shares(self, other: Cone) -> bool:
        """Whether it begins with something that another begins with too, if with anything."""
        mine, its = set(self.frontier.values()), set(other.frontier.values())
        return not (mine and its and mine.isdisjoint(its))


@dataclass(slots=True)
class RegionPair:
    """A region of both models.

    Attributes
    ----------
    a, b : Side
    of_a, of_b : Cone
    facts, facts_of_b : Facts
        Of the original, and of the rewritten model.
    """

    a: Side
    b: Side
    of_a: Cone
    of_b: Cone
    facts: Facts
    facts_of_b: Facts


class LargeRegionError(Exception):
    """A region has too many nodes.

    Attributes
    ----------
    seen : set of int
        The tensors in it.
    """

    def __init__(self, seen: set[int]) -> None:
        super().__init__(f"its region has more than {LARGEST} nodes")
        self.seen = seen


def cone_of(side: Side, target: int, stops: Collection[int]) -> Cone:
    """Return what makes a tensor, back to tensors of some classes.

    Parameters
    ----------
    side : Side
    target : int
    stops : collection of int
        Classes. Inputs, and what bodies are given, end it too.

    Raises
    ------
    LargeRegionError
        If there is no end to it.
    """
    pending, seen = [target], {target}
    nodes: dict[int, FlatNode] = {}
    frontier: dict[int, int] = {}
    constants: set[int] = set()
    while pending:
        number = pending.pop()
        kind = side.classes[number]
        maker = side.maker(number)
        if number in side.flat.tensors and number not in side.overridable:
            constants.add(number)
            continue
        ends = maker is None or maker.op == ENTRY
        if number != target and side.value(number) is not None:
            constants.add(number)  # however it is made
            continue
        if number != target and (ends or kind in stops):
            frontier[number] = kind
            continue
        if maker is None or maker.op == ENTRY:
            frontier[number] = kind
            continue
        if maker.index in nodes:
            continue
        nodes[maker.index] = maker
        if len(nodes) > LARGEST:
            raise LargeRegionError(seen)
        for read in maker.inputs:
            if read != NONE and read not in seen:
                seen.add(read)
                pending.append(read)
    ordered = tuple(nodes[index] for index in sorted(nodes))
    return Cone(target, ordered, frontier, frozenset(constants))


def widened(side: Side, cone: Cone, known: Collection[int]) -> Cone | None:
    """Return a region whose frontier is one operator further up; None where there is none.

    Parameters
    ----------
    side : Side
    cone : Cone
    known : collection of int
        The classes that a frontier may have.
    """
    stops = set(cone.frontier.values())
    try:
        wider = cone_of(side, cone.target, {kind for kind in known if kind not in stops})
    except LargeRegionError:
        return None
    return None if set(wider.frontier.values()) == stops else wider


def opposite(side: Side, target: int, cone: Cone, common: Collection[int]) -> Cone | None:
    """Return the original's region, back to what the rewritten model's begins with.

    Where that leads far away, back to whatever both models have; None where there is no end to it.

    Parameters
    ----------
    side : Side
        The original.
    target : int
    cone : Cone
        The rewritten model's region.
    common : collection of int
        Classes that both models have.
    """
    other = None
    with contextlib.suppress(LargeRegionError):
        other = cone_of(side, target, set(cone.frontier.values()))
    if other is None or len(other.nodes) > len(cone.nodes) + _FAR:
        with contextlib.suppress(LargeRegionError):
            return cone_of(side, target, common)
    return other

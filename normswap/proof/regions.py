"""Regions: the nodes between a tensor and others that are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.proof.flat import ENTRY, NONE

if TYPE_CHECKING:
    from collections.abc import Collection

    from normswap.proof.flat import Node
    from normswap.proof.numbering import Side

LARGEST = 96
"""Nodes of a region, after which it is not looked at any more."""


@dataclass(frozen=True, slots=True)
class Cone:
    """What makes a tensor, back to a frontier.

    Attributes
    ----------
    target : int
    nodes : tuple of Node
        In topological order.
    frontier : dict of int to int
        Tensors and their classes.
    constants : frozenset of int
        The constants that it reads.
    """

    target: int
    nodes: tuple[Node, ...]
    frontier: dict[int, int]
    constants: frozenset[int]


class LargeRegionError(Exception):
    """A region has too many nodes.

    Attributes
    ----------
    seen : set of int
        The tensors in it.
    """

    def __init__(self, seen: set[int]) -> None:
        super().__init__(f"a region has more than {LARGEST} nodes")
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
    makers = side.flat.makers
    pending, seen = [target], {target}
    nodes: dict[int, Node] = {}
    frontier: dict[int, int] = {}
    constants: set[int] = set()
    while pending:
        number = pending.pop()
        kind = side.classes[number]
        maker = makers[number]
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

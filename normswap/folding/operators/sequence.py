"""SplitToSequence and SequenceAt: a Split of which every part is taken by a node of its own.

torch's newer exporter writes its splits so. The parts that others take have the identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.answers import Answer, Down, Goal, Up
from normswap.folding.operators.base import Operator
from normswap.folding.operators.selection import picked, put_back
from normswap.graph.evaluate import integers_of
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason
from normswap.graph.sequences import parts_of

if TYPE_CHECKING:
    from normswap.graph.affine import Affine


class SequenceAt(Operator):
    """Carries an affine of a part up beside the identity."""

    ops = ("SequenceAt",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        split = node.operand(0).producer
        if split is None or split.op != "SplitToSequence" or split.domain:
            raise self.blocked(node, "reads from a sequence that no SplitToSequence makes")
        takers, axis, parts = _taken(self, split)
        own = takers[node.key]
        if list(takers.values()).count(own) > 1:
            raise self.blocked(
                node,
                "reads a part of the sequence that another node reads too",
                Reason.SEVERAL_READERS,
            )
        rank = split.operand(0).rank
        whole = None if rank is None else put_back(affine, rank, axis, parts[own], parts[-1].stop)
        if whole is None:
            raise AssertionError("the parts of a tensor don't overlap")
        return Answer(goals=(Up(Use(split, 0), whole),), note="s, t; identity for the other parts")


class SplitToSequence(Operator):
    """Carries an affine of the whole down in parts."""

    ops = ("SplitToSequence",)

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0:
            raise self.blocked(node, f"uses {node.operand(slot).name} as its sizes")
        takers, axis, parts = _taken(self, node)
        rank = node.operand(0).rank or 0
        goals: list[Goal] = [
            Down(use.node.out, picked(affine, rank, axis, parts[takers[use.node.key]]))
            for use in node.out.readers.values()
        ]
        return Answer(goals=tuple(goals), note="s, t in parts")


def _taken(operator: Operator, split: Node) -> tuple[dict[int, int], int, list[range]]:
    """Return by whose key which part of a tensor is taken, the axis, and where each part lies.

    Raises
    ------
    Blocked
        If the sequence is read by anyone else, or a place or size is not known.
    """
    value, sequence = split.operand(0), split.out
    if value.shape is None:
        raise operator.blocked(split, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
    axis = int(split.attr("axis", 0)) % len(value.shape)
    parts = parts_of(split, value.shape[axis])
    if parts is None:
        raise operator.blocked(split, "has parts of unknown size", Reason.SHAPE_UNKNOWN)
    takers: dict[int, int] = {}
    for node, _ in sequence.readers.values():
        place = integers_of(node.input(1))
        if node.op != "SequenceAt" or node.domain or node.graph is not split.graph or not place:
            why = f"makes a sequence that {node.op} {node.title} reads too"
            raise operator.blocked(split, why, Reason.SEVERAL_READERS)
        takers[node.key] = range(len(parts))[place[0]]
    if sequence.is_output or sequence.captured:
        why = "makes a sequence that is a graph output, or that a subgraph reads"
        raise operator.blocked(split, why, Reason.CAPTURED)
    return takers, axis, parts

"""What a region decides by sizes that are open, of which a few are tried.

A Slice that ends at 100 is the same as one that ends at 1000 on all that is shorter, and a Trilu
may have its diagonal outside; a table of positions has rows that short sequences never read, and
integers that are divided are rounded. Two regions that decide alike do so at any size. Of two that
do not, nothing is said.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from normswap.proof.flat import NONE
from normswap.proof.result import BY_SIZE
from normswap.semantics.families import MOVES

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from normswap.proof.flat import FlatNode
    from normswap.proof.numbering import Side
    from normswap.proof.regions import Cone, RegionPair

# What sizes may become on their way, without anything being decided by them.
_ARITHMETIC = MOVES | {
    "Add", "Cast", "ConstantOfShape", "Div", "Mul", "Neg", "Range", "ReduceProd", "Shape", "Size",
    "Sub",
}  # fmt: skip

_LOOKUPS = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
_ENDLESS = 2**31 - 1  # as an end: that of the axis, however long


def decided_otherwise(pair: RegionPair) -> str:
    """Return why two regions may differ at sizes that are not tried; empty if they don't.

    Parameters
    ----------
    pair : RegionPair
    """
    if len(pair.a.sizes) == 1:
        return ""
    found: list[Counter[Hashable]] = []
    for side, cone in ((pair.a, pair.of_a), (pair.b, pair.of_b)):
        for node in cone.nodes:
            if _chooses(node, side):
                return f"{node.title} {BY_SIZE}"
        found.append(Counter(key for key, _ in _decisions(side, cone)))
    for side, cone in ((pair.b, pair.of_b), (pair.a, pair.of_a)):
        for key, node in _decisions(side, cone):
            if found[0][key] != found[1][key]:
                return f"{node.title} {BY_SIZE}"
    return ""


def _chooses(node: FlatNode, side: Side) -> bool:
    """Whether a node decides something by a size that is open."""
    return not (node.is_standard and node.op in _ARITHMETIC) and _is_by_sizes(node.outputs, side)


def _is_by_sizes(numbers: list[int], side: Side) -> bool:
    """Whether tensors have values that follow from sizes, some from one that is open."""
    known = [n for n in numbers if n != NONE]
    return all(n in sizes.values for n in known for sizes in side.sizes) and not all(
        n in side.sizes[0].constant for n in known
    )


def _decisions(side: Side, cone: Cone) -> Iterator[tuple[Hashable, FlatNode]]:
    """Yield what the nodes of a region decide by sizes, each with the node."""
    for node in cone.nodes:
        if not node.is_standard:
            continue
        read = [side.classes[n] for n in node.inputs if n != NONE]
        if node.op == "Div" and _is_by_sizes(node.outputs, side):
            yield ("Div", *read[1:]), node  # integers: what is left over is lost
        if node.op in _LOOKUPS and node.inputs[0] in cone.constants:
            by = [n for n in node.inputs[1:] if n != NONE and n not in side.sizes[0].constant]
            if by and _is_by_sizes(by, side):
                yield (node.op, *read), node
        if node.op in {"Slice", "Trilu"}:
            yield from ((key, node) for key in _beyond(node, side))


def _beyond(node: FlatNode, side: Side) -> Iterator[Hashable]:
    """Yield the limits of a node that lie outside of a tensor at a size that is tried."""
    shapes = [shape for sizes in side.sizes if (shape := sizes.shapes.get(node.inputs[0]))]
    if len(shapes) < len(side.sizes):
        return
    for axis, value in _limits(node, side, len(shapes[0])):
        lengths = {shape[axis] for shape in shapes}
        if len(lengths) > 1 and min(lengths) < abs(value) < _ENDLESS:
            yield node.op, axis, value


def _limits(node: FlatNode, side: Side, rank: int) -> Iterator[tuple[int, int]]:
    """Yield the axes of a node and where on them something begins or ends, if that is known."""
    if node.op == "Trilu":
        yield from ((axis, each) for axis in (-2, -1) for each in _integers(node, side, 1, ""))
        return
    axes = _integers(node, side, 3, "axes") or range(rank)
    for slot, attribute in ((1, "starts"), (2, "ends")):
        yield from zip(axes, _integers(node, side, slot, attribute), strict=False)


def _integers(node: FlatNode, side: Side, slot: int, attribute: str) -> list[int]:
    """Return what an input gives, or an attribute did; nothing where it isn't known."""
    number = node.inputs[slot] if slot < len(node.inputs) else NONE
    if number == NONE:
        return list(node.attributes.get(attribute, ()))
    value = side.constants.load(number) if number in side.flat.tensors else side.value(number)
    return [] if value is None else [int(each) for each in value.reshape(-1)]

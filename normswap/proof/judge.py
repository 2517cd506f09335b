"""Whether the two forms of a region are one function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ml_dtypes

from normswap.dtypes import NUMPY_DTYPES, is_float
from normswap.proof.drive import Pair, drive
from normswap.proof.evaluate import UnjudgedError, narrowing, stored_types
from normswap.proof.flat import NONE
from normswap.proof.maps import NoMapError, Rounding, compare
from normswap.proof.reading import map_of
from normswap.proof.result import Means
from normswap.proof.types import takes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.proof.flat import Node
    from normswap.proof.numbering import Side
    from normswap.proof.regions import Cone

UNITS = 6.0
"""Unit roundoffs that a number of a map may be off by, in parts of its magnitude.

A shift that is folded in the arithmetic of its own type, ``(b - mean) * (scale / sqrt(var + eps)) +
B``, is off by 5.5 at most.
"""

FLOORS = 10.0
"""Weight-rounding floors (root mean square) that an element may be off by."""

ONCE = 1.001
_NEAR = 1e-3  # parts of the largest value
_PLAINLY = 8.0  # times that much is no rounding


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found of a region.

    Attributes
    ----------
    equal : bool
    apart : bool
        Whether it is plainly another function; not both, but maybe neither.
    means : Means or None
    floors : float
    element : str
    channel : int or None
    reason : str
    is_near : bool
        Whether the two are apart by little: no step of a rewrite, which leaves a scale or a shift
        for later, but a fault that what is behind it may hide.
    """

    equal: bool
    apart: bool = False
    means: Means | None = None
    floors: float = 0.0
    element: str = ""
    channel: int | None = None
    reason: str = ""
    is_near: bool = False


def judge(pair: Pair) -> Judgement:
    """Say whether a region is the same function in both models."""
    reason = _refused(pair)
    if reason:
        return Judgement(equal=False, reason=reason)
    try:
        return _by_maps(pair)
    except NoMapError:
        pass
    try:
        found = drive(pair, FLOORS)
    except UnjudgedError as error:
        return Judgement(equal=False, reason=str(error))
    equal = found.floors <= FLOORS and not found.reason
    return Judgement(
        equal=equal,
        apart=found.floors > _PLAINLY * FLOORS,
        means=Means.DRIVEN,
        floors=found.floors,
        element=found.where,
        channel=found.channel,
        reason="" if equal else found.reason or _said(found.floors, "weight-rounding floors"),
        is_near=found.floors > FLOORS and 0 < found.share < _NEAR,
    )


def _by_maps(pair: Pair) -> Judgement:
    if not _same_shapes(pair):
        raise NoMapError("the shape of what it makes is not known to be the same")
    # A number was rounded when the rewritten model stored it. Weights have axes, shifts one.
    shifts = rounding_of(pair.b, pair.of_b) or rounding_of(pair.a, pair.of_a)
    weights = rounding_of(pair.b, pair.of_b, axes=2) or shifts
    none = Rounding(0.0, 0.0)
    maps = map_of(pair.a, pair.of_a), map_of(pair.b, pair.of_b)
    off = compare(*maps, weights or none, shifts or none)
    # Where the operators are the same, nobody computed: numbers were stored anew at most.
    same = [node.op for node in pair.of_a.nodes] == [node.op for node in pair.of_b.nodes]
    equal = off.units <= (ONCE if same else UNITS)
    return Judgement(
        equal=equal,
        apart=off.units > _PLAINLY * UNITS,
        means=Means.MAPS,
        floors=off.units,
        element=off.where,
        channel=off.channel,
        reason="" if equal else _said(off.units, "times what rounding does to it"),
        is_near=not equal and off.share < _NEAR,
    )


def _said(floors: float, what: str) -> str:
    return f"it is off by {floors:.3g} {what}"


def _same_shapes(pair: Pair) -> bool:
    return all(
        (shape := one.shapes.get(pair.of_a.target)) is not None
        and shape == other.shapes.get(pair.of_b.target)
        for one, other in zip(pair.a.sizes, pair.b.sizes, strict=True)
    )


def _refused(pair: Pair) -> str:
    """Return why a region is not to be judged, if it isn't."""
    kinds = [
        side.flat.types[cone.target] for side, cone in ((pair.a, pair.of_a), (pair.b, pair.of_b))
    ]
    if not all(kinds) or kinds[0] != kinds[1]:
        return "it is of another type"
    if _narrowed(pair.a, pair.of_a) != _narrowed(pair.b, pair.of_b):
        return "one of the two rounds to a narrower type"
    for side, cone in ((pair.a, pair.of_a), (pair.b, pair.of_b)):
        for node in cone.nodes:
            if not takes(node, side.flat.types):
                return f"{node.title} does not take the types of what it reads"
            if _chooses_by_size(node, side):
                return f"{node.title} decides by sizes, of which a few are tried"
    before, after = rounding_of(pair.a, pair.of_a), rounding_of(pair.b, pair.of_b)
    if before is not None and after is not None and after.unit > before.unit:
        return "its constants are of a narrower type"
    return ""


# What sizes may become on their way, without anything being decided by them.
_ARITHMETIC = frozenset(
    {
        "Add",
        "Cast",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Expand",
        "Flatten",
        "Gather",
        "Mul",
        "Neg",
        "Range",
        "ReduceProd",
        "Reshape",
        "Shape",
        "Size",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)


def _chooses_by_size(node: Node, side: Side) -> bool:
    """Whether a node decides something by a size that is open."""
    if len(side.sizes) == 1 or (node.is_standard and node.op in _ARITHMETIC):
        return False
    made = [n for n in node.outputs if n != NONE]
    by_sizes = all(n in sizes.values for n in made for sizes in side.sizes)
    return by_sizes and not all(n in side.sizes[0].constant for n in made)


def _narrowed(side: Side, cone: Cone) -> set[int]:
    return set(narrowing(side, cone).values())


def rounding_of(side: Side, cone: Cone, axes: int = 0) -> Rounding | None:
    """Return the coarsest rounding of a region's constants of so many axes; None without any."""
    found = [
        ml_dtypes.finfo(NUMPY_DTYPES[kind])
        for number in cone.constants
        if is_float(side.flat.types[number]) and len(_shape(side, number)) >= axes
        for kind in stored_types(side, number)
    ]
    if not found:
        return None
    unit = max(float(info.eps) / 2 for info in found)
    return Rounding(unit, max(float(info.smallest_subnormal) for info in found))


def _shape(side: Side, number: int) -> tuple[int, ...]:
    return side.sizes[0].shapes.get(number, ())


def frontier_names(side: Side, cone: Cone) -> Iterator[str]:
    """Yield the names of what a region begins with."""
    for number in cone.frontier:
        yield side.flat.names[number]

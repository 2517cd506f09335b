"""Whether the two forms of a region are one function."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from normswap.dtypes import NUMPY_DTYPES, is_float
from normswap.proof.by_size import decided_otherwise
from normswap.proof.comparing import Number, Rounding, aligned, compare
from normswap.proof.drive import drive
from normswap.proof.evaluate import UnjudgedError, constant_of, narrowing, stored_types
from normswap.proof.flat import NONE
from normswap.proof.maps import NoMapError
from normswap.proof.reading import map_of
from normswap.proof.result import NARROWER, Means
from normswap.proof.types import takes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.proof.flat import FlatNode
    from normswap.proof.numbering import Side
    from normswap.proof.regions import Cone, RegionPair

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
class RegionJudgement:
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
    is_partial : bool
        Whether a number of a weight is off that shares neither channel nor tap with others alone:
        no step of a rewrite either, if nothing else is apart.
    number : Number or None
        The number of a constant that is off most, if it is known that constants are what differs.
    work : float
        What it took, see :mod:`normswap.proof.budget`.
    """

    equal: bool
    apart: bool = False
    means: Means | None = None
    floors: float = 0.0
    element: str = ""
    channel: int | None = None
    reason: str = ""
    is_near: bool = False
    is_partial: bool = False
    number: Number | None = None
    work: float = 0.0


def judge(pair: RegionPair, *, drives: bool = True) -> RegionJudgement:
    """Say whether a region is the same function in both models.

    Parameters
    ----------
    pair : RegionPair
    drives : bool
        Whether what can't be told by maps is driven.
    """
    reason = _refused(pair)
    if reason:
        return RegionJudgement(equal=False, reason=reason)
    try:
        return _by_maps(pair)
    except NoMapError as error:
        if not drives:
            return RegionJudgement(equal=False, reason=str(error))
    try:
        found = drive(pair, FLOORS)
    except UnjudgedError as error:
        return _stored_otherwise(pair) or RegionJudgement(equal=False, reason=str(error))
    equal = found.floors <= FLOORS and not found.reason
    return RegionJudgement(
        equal=equal,
        apart=found.floors > _PLAINLY * FLOORS,
        means=Means.DRIVEN,
        floors=found.floors,
        element=found.where,
        channel=found.channel,
        reason="" if equal else found.reason or _said(found.floors, "weights", FLOORS),
        is_near=found.floors > FLOORS and 0 < found.share < _NEAR,
        work=found.work,
    )


def _by_maps(pair: RegionPair) -> RegionJudgement:
    if not same_shapes(pair):
        raise NoMapError("the shape of what it makes is not known to be the same")
    a, b = map_of(pair.a, pair.of_a), map_of(pair.b, pair.of_b)
    if pair.of_b.own != pair.of_b.nodes:
        # What is scaled and shifted has been rounded, too.
        a, b = aligned(a, b)
        a = replace(a, magnitude=np.maximum(a.magnitude, b.magnitude))
    off = compare(a, b, *rounded(pair))
    # Where the operators are the same, nobody computed: numbers were stored anew at most.
    same = [node.op for node in pair.of_a.nodes] == [node.op for node in pair.of_b.nodes]
    equal = off.units <= (ONCE if same else UNITS)
    return RegionJudgement(
        equal=equal,
        apart=off.units > _PLAINLY * UNITS,
        means=Means.MAPS,
        floors=off.units,
        element=off.where,
        channel=off.channel,
        reason="" if equal else _said(off.units, "constants", ONCE if same else UNITS),
        is_near=not equal and off.share < _NEAR,
        is_partial=not equal and off.is_partial,
        number=off.number,
    )


def _stored_otherwise(pair: RegionPair) -> RegionJudgement | None:
    """Find a constant that is another one in a region that is the same but for its constants."""
    if len(pair.of_a.nodes) != len(pair.of_b.nodes):
        return None
    made: dict[int, int] = {}
    constants: list[tuple[int, int]] = []
    for one, other in zip(pair.of_a.nodes, pair.of_b.nodes, strict=True):
        if not _is_alike(one, other):
            return None
        for a, b in zip(one.inputs, other.inputs, strict=True):
            if a in pair.of_a.constants and b in pair.of_b.constants:
                constants.append((a, b))
            elif made.get(a, NONE) != b and pair.a.classes[a] != pair.b.classes[b]:
                return None
        made.update(zip(one.outputs, other.outputs, strict=False))
    found = [off for a, b in constants if (off := _other_constant(pair, a, b)) is not None]
    worst = max(found, key=lambda off: off.floors, default=None)
    return replace(worst, number=None) if worst is not None and len(found) > 1 else worst


def _is_alike(one: FlatNode, other: FlatNode) -> bool:
    """Whether two nodes are of the same operator, with the same attributes."""
    return (
        (one.op, one.domain, one.opset) == (other.op, other.domain, other.opset)
        and repr(one.attributes) == repr(other.attributes)
        and len(one.inputs) == len(other.inputs)
    )


def _other_constant(pair: RegionPair, a: int, b: int) -> RegionJudgement | None:
    """Compare two constants; None where they are the same to rounding, or no floats."""
    if pair.a.classes[a] == pair.b.classes[b] or not is_float(pair.b.flat.types[b]):
        return None
    one, other = constant_of(pair.a, a), constant_of(pair.b, b)
    if one.shape != other.shape:
        return None
    info = ml_dtypes.finfo(NUMPY_DTYPES[pair.b.flat.types[b]])
    off, size = np.abs(one - other), np.abs(one)
    with np.errstate(divide="ignore", invalid="ignore"):
        units = np.where(off > 0, off / (float(info.eps) / 2 * size), 0.0)
    at = np.unravel_index(int(np.nanargmax(units)), units.shape) if units.size else ()
    place = tuple(map(int, at))
    most = float(units[place]) if units.size else 0.0
    if not most > _PLAINLY * UNITS:
        return None
    count = int(np.count_nonzero(units > UNITS))
    return RegionJudgement(
        equal=False,
        apart=True,
        floors=most,
        element=f"{pair.b.flat.names[b]}{list(place)}",
        reason=_said(most, "constants", UNITS),
        is_near=bool(off.max() < _NEAR * size.max()),
        number=Number(one.shape, place, float(other[place]), float(one[place]), count),
    )


def _said(floors: float, what: str, limit: float) -> str:
    if math.isinf(floors):
        return f"it differs, and rounding the {what} does not explain it"
    return f"it differs by {floors:.3g} times the rounding error of the {what} (limit {limit:.2g})"


def rounded(pair: RegionPair) -> tuple[Rounding, Rounding]:
    """Return how the weights and the shifts of a region were rounded.

    A number was rounded when the rewritten model stored it. Weights have axes, shifts one.
    """
    shifts = rounding_of(pair.b, pair.of_b) or rounding_of(pair.a, pair.of_a)
    weights = rounding_of(pair.b, pair.of_b, axes=2) or shifts
    none = Rounding(0.0, 0.0)
    return weights or none, shifts or none


def same_shapes(pair: RegionPair) -> bool:
    """Whether both models make a tensor of the same shapes, and these are known."""
    return all(
        (shape := one.shapes.get(pair.of_a.target)) is not None
        and shape == other.shapes.get(pair.of_b.target)
        for one, other in zip(pair.a.sizes, pair.b.sizes, strict=True)
    )


def _refused(pair: RegionPair) -> str:
    """Return why a region is not to be judged, if it isn't."""
    kinds = [
        side.flat.types[cone.target] for side, cone in ((pair.a, pair.of_a), (pair.b, pair.of_b))
    ]
    if not all(kinds) or not pair.b.may_be(*kinds):
        return "its element type differs between the models"
    types = [pair.a.flat.types[number] for number in pair.of_a.frontier]
    narrowed = set(narrowing(pair.b, pair.of_b, types).values())
    if set(narrowing(pair.a, pair.of_a).values()) != narrowed - {pair.b.narrow}:
        return NARROWER
    for side, cone in ((pair.a, pair.of_a), (pair.b, pair.of_b)):
        for node in cone.nodes:
            if not takes(node, side.flat.types):
                return f"{node.title} does not accept the element types of its inputs"
    reason = decided_otherwise(pair)
    if reason:
        return reason
    before, after = rounding_of(pair.a, pair.of_a), rounding_of(pair.b, pair.of_b)
    coarser = before is not None and after is not None and after.unit > before.unit
    if coarser and not pair.b.narrow:
        return "its constants have a narrower type in the rewritten model"
    return ""


def rounding_of(side: Side, cone: Cone, axes: int = 0) -> Rounding | None:
    """Return the coarsest rounding of a region's constants of so many axes; None without any."""
    found = [
        ml_dtypes.finfo(NUMPY_DTYPES[kind])
        for number in cone.constants
        if is_float(side.flat.types[number]) and len(side.sizes[0].shapes.get(number, ())) >= axes
        for kind in stored_types(side, number)
    ]
    if not found:
        return None
    unit = max(float(info.eps) / 2 for info in found)
    return Rounding(unit, max(float(info.smallest_subnormal) for info in found))


def frontier_names(side: Side, cone: Cone) -> Iterator[str]:
    """Yield the names of what a region begins with."""
    for number in cone.frontier:
        yield side.flat.names[number]

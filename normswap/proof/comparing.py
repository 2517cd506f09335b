"""Two maps beside each other, number by number (:mod:`normswap.proof.maps`)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from normswap.proof.maps import Map, NoMapError, Normal, Trail, embedded, is_wider

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.proof.maps import MapBlock

_Arrays = list[tuple[np.ndarray, "np.ndarray | None"]]
"""Of either map an array and what it is multiplied by."""

Piece = tuple[int, int, Trail, int]
"""A tensor's class, the first channel, what moves its elements, and the first that is read."""

_ROWS = 1 << 15  # numbers that are compared at a time
_OFF = 8.0  # roundoffs of a number that is not as it should be


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a stored weight or bias.

    Attributes
    ----------
    shape, place : tuple of int
        Of the array, and where in it.
    stored, wanted : float
        What it is in the rewritten model, and what it should be.
    count : int
        How many numbers are off, with this one.
    """

    shape: tuple[int, ...]
    place: tuple[int, ...]
    stored: float
    wanted: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class Off:
    """How far one map is from another.

    Attributes
    ----------
    units : float
        The largest deviation of a number, in unit roundoffs of its magnitude.
    where : str
        Which number, for people.
    channel : int or None
        The output channel that it is of.
    share : float
        The largest deviation in parts of the largest number of its weight.
    is_partial : bool
        Whether it is of a weight, and on each of its axes there are numbers at the same place that
        are as they should be: so it is no scale or shift of a channel.
    number : Number or None
        The one that is off most, where that is more than rounding.
    """

    units: float
    where: str = ""
    channel: int | None = None
    share: float = 0.0
    is_partial: bool = False
    number: Number | None = None

    def worse(self, other: Off) -> Off:
        """Return the larger of two."""
        worst = max(self, other, key=lambda item: item.units)
        numbers = [off.number for off in (self, other) if off.number is not None]
        number = worst.number
        if number is not None:
            number = replace(number, count=sum(each.count for each in numbers))
        return replace(worst, share=max(self.share, other.share), number=number)


@dataclass(frozen=True, slots=True)
class Rounding:
    """What storing a number once does to it.

    Attributes
    ----------
    unit : float
        The unit roundoff of the type, in parts of the number.
    least : float
        What it may be however small the number is.
    """

    unit: float
    least: float


def compare(a: Map, b: Map, weights: Rounding, shifts: Rounding) -> Off:
    """Return how far a map is from another, number by number.

    Parameters
    ----------
    a, b : Map
        They make tensors of the same shape.
    weights, shifts : Rounding
        Of the constants that weights and biases come from.

    Raises
    ------
    NoMapError
        If the two can't be compared: they apply different operators.
    """
    a, b = aligned(a, b)
    worst = _apart(a.bias, b.bias, a.magnitude, shifts, "bias", 0)
    first, second = matched(a, b)
    for key, block in first.items():
        one, other = block, second[key]
        if one.operator != other.operator:
            if is_wider(one, other):
                other = embedded(other, one)
            else:
                one = embedded(one, other)
        size = one.magnitude
        off = _apart(
            one.stored,
            other.stored,
            size,
            weights,
            "weight",
            one.axis,
            factors=(one.factor, other.factor),
        )
        if off.channel is not None:
            off = replace(off, channel=off.channel + one.start)
        worst = worst.worse(off)
    return worst.worse(_normals_apart(a.normals, b.normals, weights, shifts))


def aligned(a: Map, b: Map) -> tuple[Map, Map]:
    """Return two maps with the same axis of channels.

    Raises
    ------
    NoMapError
        If they have different ones.
    """
    if a.axis is None and b.axis is not None:
        a = a.along(b.axis, b.bias.size) if b.bias.ndim else replace(a, axis=b.axis)
    if b.axis is None and a.axis is not None:
        b = b.along(a.axis, a.bias.size) if a.bias.ndim else replace(b, axis=a.axis)
    if a.axis != b.axis or a.trail != b.trail:
        raise NoMapError("they apply different operators")
    return a, b


def matched(a: Map, b: Map) -> tuple[dict[Piece, MapBlock], dict[Piece, MapBlock]]:
    """Return the blocks of two maps, cut at the same channels, by what they read.

    Raises
    ------
    NoMapError
        If they read different tensors.
    """
    bounds = sorted({edge for each in (a, b) for edge in _edges(each)})
    first, second = _refined(a, bounds), _refined(b, bounds)
    if first.keys() != second.keys():
        raise NoMapError("they read different tensors")
    return first, second


def _normals_apart(
    a: Sequence[Normal], b: Sequence[Normal], weights: Rounding, shifts: Rounding
) -> Off:
    """Compare what is normalized, how, and with which epsilon."""
    worst = Off(0.0)
    if len(a) != len(b):
        raise NoMapError("they normalize different tensors")
    for one, other in zip(a, b, strict=True):
        if one.runs != other.runs:
            if len(a) > 1:
                raise NoMapError("they normalize in other groups")
            return Off(math.inf, "the groups that are normalized", share=1.0)
        rounding = Rounding(max(shifts.unit, _ATTRIBUTE), shifts.least)
        off = _apart(one.epsilon, other.epsilon, None, rounding, "epsilon", 1)
        worst = worst.worse(off).worse(compare(one.of, other.of, weights, shifts))
    return worst


_ATTRIBUTE = 2.0**-24  # the unit roundoff of numbers among attributes


def _edges(each: Map) -> Iterator[int]:
    for block in each.blocks:
        if block.stored.ndim:
            yield from (block.start, block.start + block.count)


def _refined(each: Map, bounds: Sequence[int]) -> dict[Piece, MapBlock]:
    """Return the blocks, cut at some channels, by tensor, channel and what is read of it.

    Two that read the same are added up.
    """
    found: dict[Piece, MapBlock] = {}
    for block in each.blocks:
        pieces = [block]
        if block.stored.ndim:
            own = [c for c in bounds if block.start <= c <= block.start + block.count]
            pieces = [block.part(low, high) for low, high in itertools.pairwise(own)]
        for piece in pieces:
            operator = piece.operator
            key = (piece.kind, piece.start, operator.trail, operator.offset)
            found[key] = found[key].plus(piece) if key in found else piece
    return found


def _apart(
    a: np.ndarray,
    b: np.ndarray,
    magnitude: np.ndarray | None,
    rounding: Rounding,
    what: str,
    axis: int,
    *,
    factors: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> Off:
    """Compare two arrays, each times a factor, some rows at a time.

    A magnitude of None is that of the first.
    """
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
        magnitude = None if magnitude is None else np.broadcast_to(magnitude, shape)
        pair = [
            (np.broadcast_to(array, shape), None if by is None else np.broadcast_to(by, shape))
            for array, by in zip((a, b), factors, strict=True)
        ]
    except ValueError as error:
        raise NoMapError("they are of different sizes") from error
    if not math.prod(shape):
        return Off(0.0)
    if not shape:
        lifted = None if magnitude is None else magnitude[None]
        found = _apart(a[None], b[None], lifted, rounding, what, 1)
        return replace(found, where=what)
    step = max(1, _ROWS // math.prod(shape[1:]))
    # A hair of float64's own rounding, so that what has no constants compares too.
    unit = max(rounding.unit, 2.0**-46)
    worst, largest, most = Off(-1.0), 0.0, 0.0
    here: tuple[int, ...] = ()
    count = 0
    for start in range(0, shape[0], step):
        rows = slice(start, start + step)
        one, other = (_product(array, by, rows) for array, by in pair)
        size = np.abs(one)
        top = float(size.max())
        deviation = np.subtract(one, other, out=other)
        np.abs(deviation, out=deviation)
        gap = float(deviation.max())
        if not (math.isfinite(top) and math.isfinite(gap)):
            raise NoMapError("a constant is no finite number")
        largest, most = max(largest, top), max(most, gap)
        if magnitude is not None:
            size = np.abs(magnitude[rows])
        with np.errstate(all="ignore"):
            deviation -= rounding.least
            size *= unit
            units = np.divide(deviation, size, out=deviation)
            # 0 / 0 is no deviation.
            highest = max(float(np.fmax.reduce(units, axis=None)), 0.0)
        if highest > _OFF:
            count += int(np.count_nonzero(units > _OFF))
        if highest > worst.units:
            place = tuple(map(int, np.unravel_index(int(np.nanargmax(units)), units.shape)))
            here = (place[0] + start, *place[1:])
            channel = here[axis] if axis < len(here) else None
            worst = Off(highest, f"{what}[{', '.join(map(str, here))}]", channel)
    share = most / largest if largest else math.inf if most else 0.0
    if worst.units <= _OFF:
        return replace(worst, share=share)
    partial = len(shape) > 1 and _is_partial(pair, here, unit)
    number = _number(pair, here, count)
    return replace(worst, share=share, is_partial=partial, number=number)


def _number(pair: _Arrays, place: tuple[int, ...], count: int) -> Number:
    """Return a number of the second array, with what would make it that of the first."""
    (one, by), (other, scale) = pair
    wanted = float(one[place]) * (1.0 if by is None else float(by[place]))
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = float(np.divide(wanted, 1.0 if scale is None else scale[place]))
    return Number(other.shape, place, float(other[place]), wanted, count)


def _is_partial(pair: _Arrays, place: tuple[int, ...], unit: float) -> bool:
    """Whether, along each axis, numbers at a place are not zero and as they should be."""
    for axis, index in enumerate(place):
        one, other = (
            np.take(array, index, axis).astype(np.float64)
            * (1.0 if by is None else np.take(by, index, axis))
            for array, by in pair
        )
        size = np.abs(one)
        if not ((np.abs(one - other) <= _OFF * unit * size) & (size > 0)).any():
            return False
    return True


def _product(array: np.ndarray, by: np.ndarray | None, rows: slice) -> np.ndarray:
    """Return some rows of an array times a factor, in float64; they may be written to."""
    wide = array[rows].astype(np.float64)
    if by is not None:
        wide *= by[rows]
    return wide

"""Affine regions as maps: what a Conv and the arithmetic around it do, number by number.

A region of linear operators, and of scales and shifts before and behind them, is a map ::

    y = W x + b

where `W` has the layout of an operator's weight: of Conv and a BatchNormalization behind it, for
example, ``W[m, c, ...] * s[m]``. So the maps of two regions are compared weight by weight, and one
weight of a million that is off can't hide behind the others. Each number has a magnitude beside
it, the sum of the absolute values that it is a sum of: rounding the region's constants moves it by
no more than their unit roundoff of that (a running error analysis; Higham, Accuracy and Stability
of Numerical Algorithms, 2002, section 3.3). Of the many terms that an operator adds up it is the
root of the sum of their squares, for their roundings are independent (ibid., section 2.8), and the
sum of absolute values would hide a fault in a number that is small only since others cancel.

A map is made of blocks: Concat and Split give the channels of a tensor to several operators. Where
one operator is behind another, or what there is has no form here, there is no map, and the region
is driven with values (:mod:`normswap.proof.drive`). How the nodes of a region become a map is in
:mod:`normswap.proof.reading`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Trail = tuple[Any, ...]
"""What moves or averages elements of single channels, one after the other."""


_Arrays = list[tuple[np.ndarray, "np.ndarray | None"]]
"""Of either map an array and what it is multiplied by."""

Piece = tuple[int, int, Trail, int]
"""A tensor's class, the first channel, what moves its elements, and the first that is read."""

_ROWS = 1 << 15  # numbers that are compared at a time
_OFF = 8.0  # roundoffs of a number that is not as it should be


class NoMapError(Exception):
    """A region is no affine map of the kind that is compared here."""


@dataclass(frozen=True, slots=True)
class Operator:
    """A linear operator with a weight; scaling is the one without a name.

    Attributes
    ----------
    name : str
        ``Conv``, ``ConvTranspose`` or ``MatMul``; empty where elements are scaled.
    group : int
    geometry : tuple
        Of a Conv: strides, dilations, pads and automatic padding; of a ConvTranspose all else that
        it has.
    offset : int
        The first channel that is read.
    trail : tuple
        What happens to a tensor before it is read.
    """

    name: str = ""
    group: int = 1
    geometry: Trail = ()
    offset: int = 0
    trail: Trail = ()


@dataclass(frozen=True, slots=True)
class Block:
    """Some channels of what a map makes, as far as they come from one tensor.

    Attributes
    ----------
    kind : int
        The tensor's class.
    operator : Operator
    start : int
        The first channel.
    stored : numpy.ndarray
        Of an operator its weight, in the layout and type that it is stored in; of scales
        (channels,), or () where there is one for all.
    magnitude : numpy.ndarray or None
        None where nothing was added up, so that it is that of the weight.
    factor : numpy.ndarray or None
        What a weight is multiplied by, if anything: of a large one there is no copy.
    """

    kind: int
    operator: Operator
    start: int
    stored: np.ndarray
    magnitude: np.ndarray | None = None
    factor: np.ndarray | None = None

    @property
    def weight(self) -> np.ndarray:
        """The numbers, in float64."""
        wide = self.stored.astype(np.float64, copy=False)
        return wide if self.factor is None else wide * self.factor

    @property
    def size(self) -> np.ndarray:
        """The magnitude."""
        return np.abs(self.weight) if self.magnitude is None else self.magnitude

    @property
    def axis(self) -> int:
        """Along which the weight has the output channels, those of a group."""
        return {"MatMul": 1, "ConvTranspose": 1}.get(self.operator.name, 0)

    @property
    def count(self) -> int:
        """Number of channels."""
        if not self.stored.ndim:
            raise NoMapError("it has no channels")
        each = int(self.stored.shape[self.axis])
        return each * self.operator.group if self.operator.name == "ConvTranspose" else each

    def scaled(self, factor: np.ndarray) -> Block:
        """Return the block times a number, or a number for each of its channels."""
        by = self._laid(factor)
        size = None if self.magnitude is None else self.magnitude * np.abs(by)
        if not self.operator.name:
            return replace(self, stored=self.stored * by, magnitude=size)
        whole = by if self.factor is None else self.factor * by
        return replace(self, factor=whole, magnitude=size)

    def _laid(self, factor: np.ndarray) -> np.ndarray:
        """Return factors in the layout of the weight."""
        if not factor.ndim or not self.operator.name:
            return factor
        if self.operator.name == "MatMul":
            return factor[np.newaxis, :]
        ones = (1,) * (self.stored.ndim - 2)
        if self.operator.name == "Conv":
            return factor.reshape(-1, 1, *ones)
        group = self.operator.group
        each = np.repeat(factor.reshape(group, -1), self.stored.shape[0] // group, axis=0)
        return each.reshape(*self.stored.shape[:2], *ones)

    def part(self, low: int, high: int) -> Block:
        """Return some of the channels, counted as those of the map are."""
        first, last = low - self.start, high - self.start
        if (first, last) == (0, self.count):
            return self
        operator = self.operator
        if operator.name == "ConvTranspose":
            raise NoMapError("it splits the channels of a ConvTranspose")
        if not operator.name:
            operator = replace(operator, offset=operator.offset + first)
        elif operator.group > 1:
            each = self.count // operator.group
            if first % each or last % each:
                raise NoMapError("it splits a group of channels")
            read = self.stored.shape[1]
            offset = operator.offset + first // each * read
            operator = replace(operator, group=(last - first) // each, offset=offset)
        here: Any = [slice(None)] * self.stored.ndim
        here[self.axis] = slice(first, last)
        size = None if self.magnitude is None else self.magnitude[tuple(here)]
        by = self.factor
        if by is not None and by.ndim and by.shape[self.axis] != 1:
            by = by[tuple(here)]
        return Block(self.kind, operator, low, self.stored[tuple(here)], size, by)

    def plus(self, other: Block) -> Block:
        """Return the sum with another block of the same channels and tensor."""
        if self.operator != other.operator:
            wide, narrow = (self, other) if _is_wider(self, other) else (other, self)
            return wide.plus(embedded(narrow, wide))
        weight = self.weight + other.weight
        return replace(self, stored=weight, magnitude=self.size + other.size, factor=None)


@dataclass(frozen=True, slots=True)
class Map:
    """An affine map.

    Attributes
    ----------
    axis : int or None
        The axis of channels, None where nothing differs among them.
    blocks : tuple of Block
    bias, magnitude : numpy.ndarray
        (channels,), or () where there is one for all.
    trail : tuple
        What happens to what the operators make.
    normals : tuple of Normal
        What is read and no tensor, but one that is normalized first: of the class -2 the first of
        them, of -3 the second.
    """

    axis: int | None
    blocks: tuple[Block, ...]
    bias: np.ndarray
    magnitude: np.ndarray
    trail: Trail = ()
    normals: tuple[Normal, ...] = ()

    def along(self, axis: int, count: int) -> Map:
        """Return the map with an axis of channels.

        Raises
        ------
        NoMapError
            If it has another one.
        """
        if self.axis == axis and self.bias.shape == (count,):
            return self
        if self.axis is not None and (self.axis != axis or self.bias.ndim):
            raise NoMapError("it differs along two axes")
        blocks = tuple(
            replace(
                block,
                stored=np.broadcast_to(block.stored, (count,)),
                magnitude=np.broadcast_to(block.size, (count,)),
            )
            if not block.stored.ndim
            else block
            for block in self.blocks
        )
        bias, magnitude = (np.broadcast_to(a, (count,)) for a in (self.bias, self.magnitude))
        return Map(axis, blocks, bias, magnitude, self.trail)

    def affine(self, scale: np.ndarray, shift: np.ndarray, size: np.ndarray) -> Map:
        """Return the map scaled and shifted; `size` is the magnitude of the shift."""
        blocks = tuple(
            block.scaled(scale[block.start : block.start + block.count] if scale.ndim else scale)
            for block in self.blocks
        )
        bias = self.bias * scale + shift
        magnitude = self.magnitude * np.abs(scale) + size
        return replace(self, blocks=blocks, bias=bias, magnitude=magnitude)

    def part(self, low: int, high: int) -> Map:
        """Return some of the channels."""
        blocks = []
        for block in self.blocks:
            first, last = max(low, block.start), min(high, block.start + block.count)
            if first < last:
                cut = block.part(first, last)
                blocks.append(replace(cut, start=first - low))
        return replace(
            self,
            blocks=tuple(blocks),
            bias=self.bias[low:high],
            magnitude=self.magnitude[low:high],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """What has mean 0 and a variance of 1, run by run: ``(z - mean) / sqrt(var + epsilon)``.

    Attributes
    ----------
    of : Map
        What makes z.
    runs : tuple of int
        How many runs z is divided into, in the order of its elements, at each size of the model.
    epsilon, sign : numpy.ndarray
        For each run of a sample, (runs,); or (1,), where it is the same. The sign is that of what
        was divided.
    """

    of: Map
    runs: tuple[int, ...]
    epsilon: np.ndarray
    sign: np.ndarray


def reduced(of: Map, runs: tuple[int, ...], count: int, epsilon: float) -> Normal:
    """Return what normalizes a tensor.

    A scale and a shift that are the same throughout a run go with its deviation and its mean::

        z = a x + b:   (z - mean(z)) / sqrt(var(z) + e)
            = sign(a) (x - mean(x)) / sqrt(var(x) + e / a^2)

    Parameters
    ----------
    of : Map
    runs : tuple of int
    count : int
        How many of them are of a sample.
    epsilon : float
    """
    same = np.array([epsilon])
    whole = Normal(of, runs, same, np.ones(1))
    if len(of.blocks) != 1 or of.trail or of.blocks[0].operator != Operator():
        return whole
    block = of.blocks[0]
    parts = []
    for values in (block.weight, of.bias):
        if values.size > 1 and (not count or values.size % count):
            return whole
        rows = values.reshape(count, -1) if values.size > 1 else values.reshape(1, 1)
        if not (rows == rows[:, :1]).all():
            return whole
        parts.append(rows[:, 0])
    scale = parts[0]
    if not np.isfinite(scale).all() or not (scale != 0).all():
        return whole
    bare = replace(block, stored=np.ones(()), magnitude=None, factor=None)
    zero = np.zeros(())
    return Normal(Map(None, (bare,), zero, zero), runs, same / scale**2, np.sign(scale))


def joined(maps: Sequence[Map]) -> Map:
    """Return the map that makes the channels of several, one behind another."""
    if any(each.axis != maps[0].axis or each.trail != maps[0].trail for each in maps):
        raise NoMapError("what it joins was moved in different ways")
    blocks, start = [], 0
    for each in maps:
        blocks += [replace(block, start=block.start + start) for block in each.blocks]
        start += each.bias.size
    bias = np.concatenate([each.bias for each in maps])
    magnitude = np.concatenate([each.magnitude for each in maps])
    return Map(maps[0].axis, tuple(blocks), bias, magnitude, maps[0].trail)


def total(maps: Sequence[Map]) -> Map:
    """Return the sum of maps, all of them with the same axis of channels."""
    varying = [each for each in maps if each.blocks]
    if any(each.trail != varying[0].trail for each in varying):
        raise NoMapError("what it adds was moved in different ways")
    bias, magnitude = maps[0].bias, maps[0].magnitude
    for each in maps[1:]:
        bias, magnitude = bias + each.bias, magnitude + each.magnitude
    blocks = tuple(block for each in varying for block in each.blocks)
    axis = next((each.axis for each in maps if each.axis is not None), None)
    return Map(axis, blocks, bias, magnitude, varying[0].trail)


def _is_wider(a: Block, b: Block) -> bool:
    return bool(a.operator.name) and (not b.operator.name or a.stored.size >= b.stored.size)


def embedded(block: Block, wide: Block) -> Block:
    """Return the kernel of a Conv, or a scale, as one of a larger Conv that reads the same.

    Raises
    ------
    NoMapError
        If it is none.
    """
    no = NoMapError("it is a sum of two operators")
    operator, small = wide.operator, block.operator
    if operator.name != "Conv" or operator.trail != small.trail or operator.offset != small.offset:
        raise no
    strides, dilations, pads, automatic = operator.geometry
    rank = len(strides)
    kernel = wide.stored.shape[2:]
    m, each = wide.stored.shape[:2]
    if automatic:
        raise no
    if not small.name:
        if m != each * operator.group or any(step != 1 for step in strides):
            raise no
        one, size = np.zeros((2, m, each, *(1,) * rank))
        rows = np.arange(m)
        one.reshape(m, each)[rows, rows % each] = np.broadcast_to(block.weight, (m,))
        size.reshape(m, each)[rows, rows % each] = np.broadcast_to(block.size, (m,))
        steps, inner = dilations, (0,) * (2 * rank)
    else:
        own, steps, inner, own_automatic = small.geometry
        one, size = block.weight, block.size
        same = small.name == "Conv" and small.group == operator.group and own == strides
        if not same or own_automatic or one.shape[:2] != (m, each):
            raise no
    places = []
    for i in range(rank):
        before = pads[i] - inner[i]
        taps = [before + t * steps[i] for t in range(one.shape[2 + i])]
        reach = (kernel[i] - 1) * dilations[i] - (one.shape[2 + i] - 1) * steps[i]
        fits = all(t % dilations[i] == 0 and 0 <= t // dilations[i] < kernel[i] for t in taps)
        if not fits or reach != before + pads[rank + i] - inner[rank + i]:
            raise no
        places.append([t // dilations[i] for t in taps])
    weight, magnitude = np.zeros((2, *wide.stored.shape))
    here = np.ix_(range(m), range(each), *places)
    weight[here], magnitude[here] = one, size
    return replace(wide, stored=weight, magnitude=magnitude, factor=None)


# --------------------------------------------------------------------------------------- comparison


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
            if _is_wider(one, other):
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


def matched(a: Map, b: Map) -> tuple[dict[Piece, Block], dict[Piece, Block]]:
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


def _refined(each: Map, bounds: Sequence[int]) -> dict[Piece, Block]:
    """Return the blocks, cut at some channels, by tensor, channel and what is read of it.

    Two that read the same are added up.
    """
    found: dict[Piece, Block] = {}
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
        found = _apart(a[None], b[None], _lifted(magnitude), rounding, what, 1)
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


def _lifted(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else array[None]

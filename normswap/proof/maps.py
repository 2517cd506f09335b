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
:mod:`normswap.proof.reading`, and how two are compared in :mod:`normswap.proof.comparing`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

Trail = tuple[Any, ...]
"""What moves or averages elements of single channels, one after the other."""


class NoMapError(Exception):
    """A region is no affine map of the kind that is compared here."""


@dataclass(frozen=True, slots=True)
class LinearOperator:
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
class MapBlock:
    """Some channels of what a map makes, as far as they come from one tensor.

    Attributes
    ----------
    kind : int
        The tensor's class.
    operator : LinearOperator
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
    operator: LinearOperator
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

    def scaled(self, factor: np.ndarray) -> MapBlock:
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

    def part(self, low: int, high: int) -> MapBlock:
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
        return MapBlock(self.kind, operator, low, self.stored[tuple(here)], size, by)

    def plus(self, other: MapBlock) -> MapBlock:
        """Return the sum with another block of the same channels and tensor."""
        if self.operator != other.operator:
            wide, narrow = (self, other) if is_wider(self, other) else (other, self)
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
    blocks : tuple of MapBlock
    bias, magnitude : numpy.ndarray
        (channels,), or () where there is one for all.
    trail : tuple
        What happens to what the operators make.
    normals : tuple of Normal
        What is read and no tensor, but one that is normalized first: of the class -2 the first of
        them, of -3 the second.
    """

    axis: int | None
    blocks: tuple[MapBlock, ...]
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
    if len(of.blocks) != 1 or of.trail or of.blocks[0].operator != LinearOperator():
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


def is_wider(a: MapBlock, b: MapBlock) -> bool:
    """Whether the first has the larger kernel, into which the other's may fit."""
    return bool(a.operator.name) and (not b.operator.name or a.stored.size >= b.stored.size)


def embedded(block: MapBlock, wide: MapBlock) -> MapBlock:
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

"""Tensors that are one of the original's but for a scale and a shift of each channel.

A rewrite may carry a scale or a shift a long way before something takes it in: through an
activation into the operator before, or along the sum of a residual network from block to block. No
tensor on that way is equal to one of the original, and a region that ends at one that is would have
to take in all of it. But each of them is one of the original scaled and shifted::

    u = s v + t

with numbers `s` and `t` for each channel. They are fitted, by least squares: of maps to the
weights, which `s` makes those of the rewritten model, else to what both regions make of values that
drive them. That is a claim like any other, and judged as one: the original's region, scaled and
shifted, is compared with that of the rewritten model. If it holds, what is behind `u` is read as
made of `v`, by a Mul and an Add that the rewritten model does not have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx

from normswap.proof.comparing import aligned, compare, matched
from normswap.proof.drive import drive, first_made
from normswap.proof.evaluate import UnjudgedError
from normswap.proof.flat import FlatNode
from normswap.proof.judge import FLOORS, UNITS, RegionJudgement, judge, rounded, same_shapes
from normswap.proof.maps import NoMapError
from normswap.proof.reading import map_of
from normswap.proof.regions import cone_of
from normswap.proof.result import Means

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from normswap.proof.comparing import Off
    from normswap.proof.drive import Driven
    from normswap.proof.maps import Map, MapBlock
    from normswap.proof.numbering import ClassTable, Side
    from normswap.proof.regions import RegionPair

_OPSET = 14
_MOST = 3  # nodes of a reading
_SAMPLES = 16  # values of a channel, below which two numbers fit whatever they are
_SAME = 1e-12  # parts by which a scale that is 1, or 0, may be off


@dataclass(frozen=True, slots=True)
class ChannelAffine:
    """What is done to each channel of a tensor.

    Attributes
    ----------
    axis : int or None
        That of the channels; None where all have the same numbers.
    scale : numpy.ndarray
        (channels,), or () without an axis.
    shifts : tuple of numpy.ndarray
        Of the same shape. Their sum is what is added, and that of their absolute values is the
        magnitude of what was rounded on the way to it (:mod:`normswap.proof.maps`).
    """

    axis: int | None
    scale: np.ndarray
    shifts: tuple[np.ndarray, ...]

    @property
    def shift(self) -> np.ndarray:
        """What is added in all."""
        total: np.ndarray = np.sum(self.shifts, axis=0)
        return total

    @property
    def is_none(self) -> bool:
        """Whether it leaves everything as it is."""
        return bool((np.abs(self.scale - 1) <= _SAME).all()) and not self.shift.any()

    def laid(self, values: np.ndarray, rank: int) -> np.ndarray:
        """Return numbers of channels in the shape of a tensor."""
        if self.axis is None:
            return values
        return values.reshape([-1 if axis == self.axis else 1 for axis in range(rank)])

    def of(self, array: np.ndarray) -> np.ndarray:
        """Return a tensor scaled and shifted."""
        scale, shift = (self.laid(each, array.ndim) for each in (self.scale, self.shift))
        made: np.ndarray = array * scale + shift
        return made


def scaled(
    pair: RegionPair, spend: Callable[[float], None], near: Collection[int]
) -> tuple[ChannelAffine, RegionJudgement] | None:
    """Return what makes the original's region that of the rewritten model; None if nothing does.

    Parameters
    ----------
    pair : RegionPair
        A region that is another function.
    spend : callable
        Told of the work, as :meth:`normswap.proof.budget.Budget.spend`.
    near : collection of int
        Tensors of the rewritten model that are off by little, see :func:`ignores`.
    """
    if pair.b.narrow or not same_shapes(pair):
        return None
    try:
        return _of_maps(pair)
    except NoMapError:
        pass
    if pair.of_a.constants and _read_of(pair, near):
        return None  # rounding these may do as much as what is read does
    try:
        return _of_values(pair, spend)
    except UnjudgedError:
        return None


def ignores(pair: RegionPair, near: Collection[int]) -> bool:
    """Say whether a region is the same function even where what it reads scaled is not scaled.

    What is off by little may be a scale near 1, which is taken out again, or a fault. A region that
    takes it out is another function without it; one that is not would hide a fault.

    Parameters
    ----------
    pair : RegionPair
        A region that is the same function.
    near : collection of int
        Tensors of the rewritten model that are off by little.
    """
    classes = pair.b.classes
    for source, number in _read_of(pair, near).items():
        own, classes[number] = classes[number], classes[source]
        bare = cone_of(pair.b, pair.of_b.target, set(pair.of_b.frontier.values()))
        found = judge(replace(pair, of_b=bare))
        classes[number] = own
        if found.equal:
            return True
    return False


def _read_of(pair: RegionPair, near: Collection[int]) -> dict[int, int]:
    """Return which of some tensors a region reads as one of the original, by what stands for it."""
    stands_for = pair.b.stands_for
    return {n: stands_for[n] for n in pair.of_b.frontier if stands_for.get(n) in near}


def _equal(means: Means, floors: float, worst: Off | Driven) -> RegionJudgement:
    channel = worst.channel
    return RegionJudgement(
        equal=True, means=means, floors=floors, element=worst.where, channel=channel
    )


# ----------------------------------------------------------------------------------- by maps


def _of_maps(pair: RegionPair) -> tuple[ChannelAffine, RegionJudgement] | None:
    weights, shifts = rounded(pair)
    a, b = aligned(map_of(pair.a, pair.of_a), map_of(pair.b, pair.of_b))
    scale = _proportion(a, b)
    if scale is None:
        return None
    size = np.abs(scale) * a.magnitude
    shift = b.bias - scale * a.bias
    noise = np.abs(shift) <= UNITS * shifts.unit * size  # what rounding may do is no shift
    shift, size = np.where(noise, 0.0, (shift, size + b.magnitude))
    found = ChannelAffine(a.axis, scale, ((shift + size) / 2, (shift - size) / 2))
    if found.is_none:
        return None
    off = compare(a.affine(scale, shift, size), b, weights, shifts)
    if off.units > UNITS:
        return None
    return found, _equal(Means.MAPS, off.units, off)


def _proportion(a: Map, b: Map) -> np.ndarray | None:
    """Return how large a map's weights are, channel by channel, in parts of another's."""
    first, second = matched(a, b)
    product, square = np.zeros((2, a.bias.size))
    for key, block in first.items():
        other = second[key]
        if block.operator != other.operator or block.operator.name == "ConvTranspose":
            return None
        one, two = (_by_channel(each, a.bias.ndim) for each in (block, other))
        if one.shape != two.shape:
            return None
        at = slice(block.start, block.start + len(one)) if a.bias.ndim else slice(None)
        product[at] += (one * two).sum(axis=-1)
        square[at] += np.square(one).sum(axis=-1)
    with np.errstate(all="ignore"):
        scale = np.where(square > 0, product / square, 1.0).reshape(a.bias.shape)
    return scale if np.isfinite(scale).all() else None


def _by_channel(block: MapBlock, axes: int) -> np.ndarray:
    """Return the weights of a block, a row for each of its channels; one row without an axis."""
    weight = block.weight
    if not axes or not weight.ndim:
        return weight.reshape(1, -1)
    return np.moveaxis(weight, block.axis, 0).reshape(weight.shape[block.axis], -1)


# --------------------------------------------------------------------------------- by values


def _of_values(
    pair: RegionPair, spend: Callable[[float], None]
) -> tuple[ChannelAffine, RegionJudgement] | None:
    a, b, moved, work = first_made(pair)
    spend(work)
    if a.ndim < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    fits = [
        _fitted(a, b, moved, axis)
        for axis in sorted({1, a.ndim - 1})
        if a.size >= _SAMPLES * a.shape[axis]
    ]
    if not fits:
        return None
    found = min(fits, key=lambda fit: float(np.abs(fit.of(a) - b).max()))
    if found.is_none:
        return None
    driven = drive(pair, FLOORS, found.of)
    spend(driven.work)
    if driven.floors > FLOORS or driven.reason:
        return None
    return found, _equal(Means.DRIVEN, driven.floors, driven)


def _fitted(a: np.ndarray, b: np.ndarray, moved: Sequence[np.ndarray], axis: int) -> ChannelAffine:
    """Fit by least squares, channel by channel."""
    others = tuple(each for each in range(a.ndim) if each != axis)
    center = a.mean(axis=others, keepdims=True)
    varying, other = a - center, b.mean(axis=others, keepdims=True)
    square = np.square(varying).sum(axis=others, keepdims=True)
    with np.errstate(all="ignore"):
        scale = (varying * (b - other)).sum(axis=others, keepdims=True) / square
    scale = np.where(np.isfinite(scale), scale, 1.0)
    scale = np.where(np.abs(scale) <= _SAME * np.abs(scale).max(), 0.0, scale)  # of a dead channel
    shift = other - scale * center
    # What rounding the region's own constants may do is none.
    squares = [np.square(each - a).mean(axis=others, keepdims=True) for each in moved]
    floor = np.sqrt(np.max(squares, axis=0)) if squares else np.zeros(shift.shape)
    least = _SAME * max(float(np.abs(a).max()), float(np.abs(b).max()))
    shift = np.where(np.abs(shift) <= FLOORS * np.abs(scale) * floor + least, 0.0, shift)
    return ChannelAffine(axis, scale.reshape(-1), (shift.reshape(-1),))


# ---------------------------------------------------------------------------------- a reading


def read_as(side: Side, number: int, kind: int, scaling: ChannelAffine, table: ClassTable) -> int:
    """Read a tensor of the rewritten model as one of the original, scaled and shifted.

    Parameters
    ----------
    side : Side
        The rewritten model.
    number : int
    kind : int
        The class of the original's tensor.
    scaling : ChannelAffine
    table : ClassTable
        Of the classes.

    Returns
    -------
    int
        The tensor that stands for the original's.
    """
    flat, types = side.flat, side.flat.types[number]
    shapes = [sizes.shapes[number] for sizes in side.sizes]
    name = flat.names[number]

    def add(what: str, of: Sequence[tuple[int, ...]], known: int | None = None) -> int:
        made = flat.add(what, types)
        side.classes.append(table.fresh() if known is None else known)
        for sizes, shape in zip(side.sizes, of, strict=True):
            sizes.shapes[made] = shape
        return made

    def constant(values: np.ndarray) -> int:
        laid = scaling.laid(values, len(shapes[0]))
        made = add(name, [laid.shape] * len(shapes))
        flat.tensors[made] = onnx.numpy_helper.from_array(laid)
        return made

    source = last = add(name, shapes, kind)
    side.stands_for[source] = number
    steps = [("Mul", scaling.scale), *(("Add", shift) for shift in scaling.shifts if shift.any())]
    # Before all that the model has, for they read nothing of it.
    first = -_MOST * len(flat.names)
    for step, (op, values) in enumerate(steps):
        made = number if step == len(steps) - 1 else add(name, shapes)
        reads = [last, constant(values)]
        names = [f"{name}:{each}" for each in (*reads, made)]
        proto = onnx.helper.make_node(op, names[:2], names[2:])
        node = FlatNode(op, "", _OPSET, {}, reads, [made], proto, index=first + step)
        if made != number:
            flat.makers[made] = node
        last = made
    side.readings[number] = node
    return source

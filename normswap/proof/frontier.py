"""Values of a frontier, with which a region is driven (:mod:`normswap.proof.drive`)."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import is_float
from normswap.proof.evaluate import UnjudgedError
from normswap.proof.flat import NONE
from normswap.proof.layout import Layout, Shape
from normswap.semantics.families import BLOCKS, LINEAR, MOVES, SUMS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from normswap.proof.facts import Bounds
    from normswap.proof.numbering import Side
    from normswap.proof.regions import RegionPair

VALUES = 16
"""Values that a floor rests on at least."""

_MOVING = 16  # multiply-adds that moving a weight at random is as much work as
_SCALES = (1.0, 8.0, 0.05, 100.0, 3000.0)
_PROBES = 64
_LARGEST = 1 << 23  # elements of one tensor of a frontier
_WORK = 1_500_000_000  # multiply-adds of one evaluation
_PROBING = 2_000_000_000  # and of all that drive few channels

_STRAIGHT = LINEAR | SUMS | MOVES | BLOCKS | {
    "AveragePool", "BatchNormalization", "GlobalAveragePool", "Mul", "Neg", "Pad", "ReduceMean",
    "ReduceSum", "Resize", "Shape",
}  # fmt: skip


class Frontier:
    """The tensors that both regions begin with, and values for them.

    Attributes
    ----------
    floats, flags : list of int
        The classes whose values are drawn: numbers, and conditions.

    Raises
    ------
    UnjudgedError
        If there are integers among them that are not known.
    """

    def __init__(self, pair: RegionPair) -> None:
        self._pair = pair
        self._layout = Layout((pair.a, pair.of_a), (pair.b, pair.of_b))
        self._numbers: dict[int, tuple[Side, int]] = {}
        for side, cone in ((pair.b, pair.of_b), (pair.a, pair.of_a)):
            for number, kind in cone.frontier.items():
                self._numbers[kind] = (side, number)
        self._originals = {kind: n for n, kind in reversed(pair.of_a.frontier.items())}
        self.floats: list[int] = []
        self.flags: list[int] = []
        for kind, (side, number) in sorted(self._numbers.items()):
            data_type = side.flat.types[number]
            if is_float(data_type):
                self.floats.append(kind)
            elif data_type == 9:
                self.flags.append(kind)
            elif number not in side.sizes[0].values:
                name = side.flat.names[number]
                raise UnjudgedError(f"it depends on the integers {name!r}, which are not known")

    def feeds(self, *, probing: bool) -> Iterator[tuple[Mapping[int, Any], bool]]:
        """Yield values by class, and whether samples are to be compared one by one.

        Parameters
        ----------
        probing : bool
            Whether channels are driven a few at a time as well.
        """
        rng = np.random.default_rng(0)
        nodes = (*self._pair.of_a.nodes, *self._pair.of_b.nodes)
        plain = all(node.is_standard and node.op in _STRAIGHT for node in nodes)
        for number, shapes in enumerate(self._layout.plans(self.floats)):
            if self.work(shapes) > _WORK:
                raise UnjudgedError("evaluating it on random values takes too much work")
            scales = _SCALES[:1] if number or plain else _SCALES
            for scale in scales:
                for flags in self._choices():
                    drawn = {k: self._draw(k, s, scale, rng) for k, s in shapes.items()}
                    yield self._all(drawn, flags, number, rng), False
            if not plain and not number:
                drawn = {k: self._positive(k, s, rng) for k, s in shapes.items()}
                flags = next(self._choices())
                yield self._all(drawn, flags, number, rng), False
        if probing:
            yield from self._probes(rng)

    def _all(
        self,
        drawn: Mapping[int, np.ndarray],
        flags: tuple[bool, ...],
        size: int,
        rng: np.random.Generator,
    ) -> dict[int, np.ndarray]:
        """Return drawn values, and with them conditions and integers."""
        return {**drawn, **self._flag_values(flags, size, rng), **self._known(size)}

    def _choices(self) -> Iterator[tuple[bool, ...]]:
        """Yield what conditions are, each of them both ways."""
        few = self.flags[:3]
        yield from itertools.product((True, False), repeat=len(few))

    def _flag_values(
        self, flags: tuple[bool, ...], size: int, rng: np.random.Generator
    ) -> dict[int, np.ndarray]:
        found = {}
        for index, kind in enumerate(self.flags):
            shape = self._layout.shape(kind, size)
            if shape is None:
                side, number = self._numbers[kind]
                raise UnjudgedError(f"the shape of {side.flat.names[number]!r} is not known")
            if math.prod(shape) == 1 and index < len(flags):
                found[kind] = np.full(shape, flags[index])
            else:
                found[kind] = rng.random(shape) < 0.5
        return found

    def _known(self, size: int) -> dict[int, np.ndarray]:
        """Return integers, which sizes determine."""
        found = {}
        for kind, (side, number) in self._numbers.items():
            if kind not in self.floats and kind not in self.flags:
                sizes = side.sizes[min(size, len(side.sizes) - 1)]
                if number not in sizes.values:
                    raise UnjudgedError("it depends on integers whose values are not known")
                found[kind] = sizes.values[number]
        if found and self._layout.is_local:
            raise UnjudgedError("it depends on integers that are known only for other input sizes")
        return found

    def _bounds(self, kind: int) -> Bounds:
        number = self._originals.get(kind, NONE)
        return (-math.inf, math.inf) if number == NONE else self._pair.facts.bounds(number)

    def _sums(self, kind: int) -> bool:
        """Whether the last axis of a tensor sums to 1."""
        number = self._originals.get(kind, NONE)
        return number != NONE and self._pair.facts.sums_to_one(number)

    def _draw(self, kind: int, shape: Shape, scale: float, rng: np.random.Generator) -> np.ndarray:
        values = self._drawn(kind, shape, scale, rng)
        return values / values.sum(axis=-1, keepdims=True) if self._sums(kind) else values

    def _drawn(self, kind: int, shape: Shape, scale: float, rng: np.random.Generator) -> np.ndarray:
        low, high = self._bounds(kind)
        values = scale * rng.standard_normal(shape)
        if low == -math.inf and high == math.inf:
            return values
        if high == math.inf:
            values = low + np.abs(values)
            values[rng.random(shape) < 0.125] = low
        elif low == -math.inf:
            values = high - np.abs(values)
        else:
            values = low + (high - low) * rng.random(shape)
            values[rng.random(shape) < 0.0625] = low
            values[rng.random(shape) < 0.0625] = high
        return values

    def _positive(self, kind: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        if self._sums(kind):
            return self._draw(kind, shape, 1.0, rng)
        low, high = self._bounds(kind)
        return np.clip(rng.uniform(0.25, 9.0, shape), low, high)

    def _probes(self, rng: np.random.Generator) -> Iterator[tuple[Mapping[int, Any], bool]]:
        """Yield values that are of few channels only."""
        spent = 0
        for kind in self.floats:
            shape = self._layout.shape(kind, 0)
            if shape is None or len(shape) < 2 or self._sums(kind):
                continue
            shapes = self._layout.probe(self.floats, min(shape[1], _PROBES))
            if shapes is None:
                yield from self._single(kind, rng)
                continue
            count = shapes[kind][0]
            spent += 2 * (2 + VALUES) * self.work(shapes)
            if spent > _PROBING:
                return
            at = [np.arange(shape[1]) % count == sample for sample in range(count)]
            for sign in (1.0, -1.0):
                drawn = {k: np.zeros(s) for k, s in shapes.items()}
                whole = sign * self._draw(kind, shapes[kind], 1.0, rng)
                low, high = self._bounds(kind)
                drawn[kind] = np.clip(whole, low, high)
                drawn[kind] *= np.stack(at).reshape(count, -1, *(1,) * (len(shape) - 2))
                if low > 0 or high < 0:
                    drawn[kind] = np.clip(drawn[kind], low, high)
                for other in self.floats:
                    if other != kind:
                        drawn[other] = self._draw(other, shapes[other], 1.0, rng)
                yield self._all(drawn, (), 0, rng), True

    def _single(
        self, kind: int, rng: np.random.Generator
    ) -> Iterator[tuple[Mapping[int, Any], bool]]:
        """Yield values at the model's own sizes that are of few channels only."""
        shapes = next(iter(self._layout.plans(self.floats)), None)
        if shapes is None:
            return
        shape = shapes[kind]
        most = _PROBING // (2 * (2 + VALUES) * len(self.floats) * max(self.work(shapes), 1))
        for axis in sorted({1, len(shape) - 1}):
            count = min(shape[axis], 16, most)
            for part in range(count):
                chosen = np.arange(shape[axis]) % count == part
                mask = chosen.reshape([-1 if i == axis else 1 for i in range(len(shape))])
                drawn = {k: self._draw(k, s, 1.0, rng) for k, s in shapes.items()}
                low, high = self._bounds(kind)
                drawn[kind] = np.clip(drawn[kind] * mask, low, high)
                yield self._all(drawn, (), 0, rng), False

    def work(self, shapes: Mapping[int, Shape]) -> int:
        """Return a bound on the multiply-adds of one evaluation of both regions."""
        if any(math.prod(shape) > _LARGEST for shape in shapes.values()):
            raise UnjudgedError("it is too large to evaluate on random values")
        places = max(
            (shape[0] * math.prod(shape[2:]) for shape in shapes.values() if len(shape) > 1),
            default=1,
        )
        if not self._layout.is_local:
            places = max((math.prod(shape[:-1]) for shape in shapes.values()), default=1)
        weights = 0
        for side, cone in ((self._pair.a, self._pair.of_a), (self._pair.b, self._pair.of_b)):
            weights += sum(
                math.prod(side.constants.shape(n)) for n in cone.constants if n in side.flat.tensors
            )
        return weights * (places + _MOVING)

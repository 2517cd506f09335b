"""Driving a region: both models' nodes in float64 on the same values of the frontier.

Values are arbitrary within what is known of a tensor (:mod:`normswap.proof.facts`), of several
scales, so that each side of every kink is reached (:mod:`normswap.proof.coverage`). What rounding
the region's own weights does is the measure: the deviation of an element against how far (root
mean square) its channel moves when each weight is moved within half a unit in its last place.

Where constants differ, the channels of what is read are also driven one after the other (or few at
a time), so that one weight can't hide behind a thousand others.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import is_float
from normswap.proof.budget import NODE
from normswap.proof.coverage import Coverage
from normswap.proof.evaluate import UnjudgedError, evaluate
from normswap.proof.flat import NONE
from normswap.proof.layout import Layout, Shape
from normswap.proof.movement import SAMPLES, Movement
from normswap.semantics.families import BLOCKS, LINEAR, MOVES, SUMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from normswap.proof.facts import Bounds, Facts
    from normswap.proof.flat import Node
    from normswap.proof.numbering import Side
    from normswap.proof.regions import Cone, Pair

_VALUES = 16
_MOVING = 16  # multiply-adds that moving a weight at random is as much work as
_SCALES = (1.0, 8.0, 0.05, 100.0, 3000.0)
_PROBES = 64
_RESOLUTION = 1e-12  # of float64, in parts of what a region makes
_TINIEST = 1e-300
_CANCELLED = 4e-16  # and of what it reads, which may cancel
_LARGEST = 1 << 23  # elements of one tensor of a frontier
_WORK = 1_500_000_000  # multiply-adds of one evaluation
_PROBING = 2_000_000_000  # and of all that drive few channels

_FEW = "has few output values, so agreement on random inputs proves nothing"

# What makes of a continuum a few values, or jumps: agreement on some inputs says little of others,
# since two limits that are close differ only for what is between them.
_ROUNDING = frozenset({
    "ArgMax", "ArgMin", "BitShift", "Ceil", "Compress", "DynamicQuantizeLinear", "Equal", "Floor",
    "Greater", "GreaterOrEqual", "Hardmax", "IsInf", "IsNaN", "Less", "LessOrEqual", "Mod",
    "NonMaxSuppression", "NonZero", "QuantizeLinear", "Round", "Shrink", "Sign", "ThresholdedRelu",
    "TopK", "Unique",
})  # fmt: skip
_AT_ZERO = frozenset({"Abs", "Celu", "Elu", "LeakyRelu", "PRelu", "Relu", "Selu"})


@dataclass(frozen=True, slots=True)
class Driven:
    """What driving a region showed.

    Attributes
    ----------
    floors : float
        The largest deviation of a channel, in weight-rounding floors of it.
    where : str
        The element.
    channel : int or None
    reason : str
        What of the region nothing reached; empty where all was.
    share : float
        The largest deviation in parts of the largest value.
    work : float
        Multiply-adds, as of :mod:`normswap.proof.budget`.
    """

    floors: float
    where: str = ""
    channel: int | None = None
    reason: str = ""
    share: float = 0.0
    work: float = 0.0


def drive(
    pair: Pair, limit: float, scaled: Callable[[np.ndarray], np.ndarray] | None = None
) -> Driven:
    """Drive a region until it is apart by more than a limit of floors, or all has been.

    Parameters
    ----------
    pair : Pair
    limit : float
    scaled : callable, optional
        What is done to what the original's region makes, before the two are compared.

    Raises
    ------
    UnjudgedError
        If it can't be driven.
    """
    driving = _Driving(pair)
    worst = Driven(0.0)
    count = 0
    for feeds, alone in driving.feeds():
        found = driving.compare(feeds, alone=alone, scaled=scaled)
        count += 1
        worst = max(worst, found, key=lambda item: item.floors)
        if not worst.floors <= limit:
            return replace(worst, work=driving.work)
    if not count:
        raise UnjudgedError("no sizes are known at which it could be evaluated")
    return replace(worst, reason=driving.unseen(), work=driving.work)


def first_made(pair: Pair) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], float]:
    """Return what both regions make of the first values that they are driven with.

    And behind these what the original's may make as well, its constants rounded otherwise; and the
    work that it took.

    Raises
    ------
    UnjudgedError
        If it can't be driven, or the two make tensors of different shapes.
    """
    driving = _Driving(pair)
    feeds, _ = next(driving.feeds(), ({}, False))
    a, b = driving.made(feeds)
    if a.shape != b.shape or a.dtype != b.dtype or a.dtype != np.float64:
        raise UnjudgedError("they make tensors of different shapes")
    moved = driving.moved(feeds, (a, b), alone=False)
    return a, b, moved, driving.work


class _Driving:
    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._layout = Layout((pair.a, pair.of_a), (pair.b, pair.of_b))
        self._numbers: dict[int, tuple[Side, int]] = {}
        for side, cone in ((pair.b, pair.of_b), (pair.a, pair.of_a)):
            for number, kind in cone.frontier.items():
                self._numbers[kind] = (side, number)
        self._originals = {kind: n for n, kind in reversed(pair.of_a.frontier.items())}
        self._floats, self._flags = [], []
        for kind, (side, number) in sorted(self._numbers.items()):
            data_type = side.flat.types[number]
            if is_float(data_type):
                self._floats.append(kind)
            elif data_type == 9:
                self._flags.append(kind)
            elif number not in side.sizes[0].values:
                name = side.flat.names[number]
                raise UnjudgedError(f"it depends on the integers {name!r}, which are not known")
        self._coverages = []
        for cone in (pair.of_a, pair.of_b):
            names = _varying(cone, self._floats + self._flags)
            self._coverages.append(Coverage(names, names))
        self._refuse_rounding()
        self._movement = Movement(pair)
        self.work = 0.0

    def _refuse_rounding(self) -> None:
        pair = self._pair
        for (side, cone), coverage in zip(
            ((pair.a, pair.of_a), (pair.b, pair.of_b)), self._coverages, strict=True
        ):
            for node in cone.nodes:
                varies = not coverage.by_value.isdisjoint(node.proto.input)
                if varies and node.op in _ROUNDING:
                    raise UnjudgedError(f"{node.title} {_FEW}")
                if varies and node.op == "Cast" and not is_float(side.flat.types[node.outputs[0]]):
                    raise UnjudgedError(f"{node.title} {_FEW}")

    # ------------------------------------------------------------------------------------- values

    def feeds(self) -> Iterator[tuple[Mapping[int, Any], bool]]:
        """Yield values by class, and whether samples are to be compared one by one."""
        rng = np.random.default_rng(0)
        plain = not any(self._is_bent(node) for node in self._nodes())
        for number, shapes in enumerate(self._layout.plans(self._floats)):
            if self._work(shapes) > _WORK:
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
        if self._movement.of_weights:
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

    def _nodes(self) -> Iterator[Node]:
        yield from self._pair.of_a.nodes
        yield from self._pair.of_b.nodes

    def _is_bent(self, node: Node) -> bool:
        return not (node.is_standard and node.op in _STRAIGHT)

    def _choices(self) -> Iterator[tuple[bool, ...]]:
        """Yield what conditions are, each of them both ways."""
        few = self._flags[:3]
        yield from itertools.product((True, False), repeat=len(few))

    def _flag_values(
        self, flags: tuple[bool, ...], size: int, rng: np.random.Generator
    ) -> dict[int, np.ndarray]:
        found = {}
        for index, kind in enumerate(self._flags):
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
            if kind not in self._floats and kind not in self._flags:
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
        for kind in self._floats:
            shape = self._layout.shape(kind, 0)
            if shape is None or len(shape) < 2 or self._sums(kind):
                continue
            shapes = self._layout.probe(self._floats, min(shape[1], _PROBES))
            if shapes is None:
                yield from self._single(kind, rng)
                continue
            count = shapes[kind][0]
            spent += 2 * (2 + _VALUES) * self._work(shapes)
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
                for other in self._floats:
                    if other != kind:
                        drawn[other] = self._draw(other, shapes[other], 1.0, rng)
                yield self._all(drawn, (), 0, rng), True

    def _single(
        self, kind: int, rng: np.random.Generator
    ) -> Iterator[tuple[Mapping[int, Any], bool]]:
        """Yield values at the model's own sizes that are of few channels only."""
        shapes = next(iter(self._layout.plans(self._floats)), None)
        if shapes is None:
            return
        shape = shapes[kind]
        most = _PROBING // (2 * (2 + _VALUES) * len(self._floats) * max(self._work(shapes), 1))
        for axis in sorted({1, len(shape) - 1}):
            count = min(shape[axis], 16, most)
            for part in range(count):
                chosen = np.arange(shape[axis]) % count == part
                mask = chosen.reshape([-1 if i == axis else 1 for i in range(len(shape))])
                drawn = {k: self._draw(k, s, 1.0, rng) for k, s in shapes.items()}
                low, high = self._bounds(kind)
                drawn[kind] = np.clip(drawn[kind] * mask, low, high)
                yield self._all(drawn, (), 0, rng), False

    def _work(self, shapes: Mapping[int, Shape]) -> int:
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

    # ----------------------------------------------------------------------------------- verdicts

    def made(self, feeds: Mapping[int, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return what both make of values of the frontier."""
        pair = self._pair
        of_a, of_b = self._split(feeds)
        first, second = self._coverages
        a = evaluate(pair.a, pair.of_a, of_a, see=_seer(first, pair.facts))
        b = evaluate(pair.b, pair.of_b, of_b, see=_seer(second, pair.facts_of_b))
        if isinstance(a, list) or isinstance(b, list):
            raise UnjudgedError("it is a sequence of tensors")
        return a, b

    def _split(self, feeds: Mapping[int, Any]) -> tuple[dict[int, Any], dict[int, Any]]:
        """Return values by the tensors of either model."""
        pair = self._pair
        return (
            {number: feeds[kind] for number, kind in pair.of_a.frontier.items()},
            {number: feeds[kind] for number, kind in pair.of_b.frontier.items()},
        )

    def moved(
        self, feeds: Mapping[int, Any], made: tuple[np.ndarray, np.ndarray], *, alone: bool
    ) -> list[np.ndarray]:
        """Return what the original's may make as well, its constants rounded otherwise."""
        pair = self._pair
        moved = self._movement.of(*self._split(feeds), made, self._samples(made[0], alone=alone))
        once = self._work({kind: np.shape(feeds[kind]) for kind in self._floats})
        once += NODE * (len(pair.of_a.nodes) + len(pair.of_b.nodes))
        self.work += (1 + len(moved)) * once
        return moved

    def compare(
        self,
        feeds: Mapping[int, Any],
        *,
        alone: bool,
        scaled: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> Driven:
        """Return how far the two are apart on values of the frontier."""
        a, b = self.made(feeds)
        if a.shape != b.shape:
            shapes = f"{list(a.shape)} in the original and {list(b.shape)} in the rewritten model"
            return Driven(math.inf, reason=f"its shape is {shapes}")
        if a.dtype != np.float64 or b.dtype != np.float64:
            same = a.dtype == b.dtype and bool((a == b).all())
            return Driven(0.0) if same else Driven(math.inf, reason="its values differ")
        moved = self.moved(feeds, (a, b), alone=alone)
        if scaled is not None:
            a, moved = scaled(a), [scaled(each) for each in moved]
        largest = max(
            (float(np.abs(v).max(initial=0.0)) for v in feeds.values() if v.dtype == np.float64),
            default=0.0,
        )
        return _apart(a, b, moved, largest, alone=alone)

    def _samples(self, a: np.ndarray, *, alone: bool) -> int:
        """Return how often weights are moved: until a floor rests on some sixteen values."""
        if not self._movement.is_any:
            return 0
        if alone:
            return _VALUES
        each = a.size // max(a.shape[1] if a.ndim > 1 else 1, 1)
        return int(min(max(SAMPLES, _VALUES // max(each, 1)), _VALUES))

    def unseen(self) -> str:
        """Return what of the region nothing reached."""
        for coverage in self._coverages:
            for item in coverage.unseen():
                if item.whole:
                    return str(item)
        return ""


def _seer(coverage: Coverage, facts: Facts) -> Any:
    def see(node: Node, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        if node.op in _AT_ZERO:
            low, high = facts.bounds(node.inputs[0])
            if low >= 0 or high <= 0:
                return  # there is no other side
        coverage.path = list(node.path)
        coverage.see(node.proto, inputs, outputs)

    return see


def _varying(cone: Cone, drawn: Sequence[int]) -> frozenset[str]:
    """Return the names, as of their nodes, of what depends on drawn values."""
    reached = {number for number, kind in cone.frontier.items() if kind in drawn}
    names: set[str] = set()
    for node in cone.nodes:
        if reached.isdisjoint(node.inputs) or node.op in {"Shape", "Size"}:
            continue
        reached.update(number for number in node.outputs if number != NONE)
        if node.domain:
            names.update(node.proto.input)
            continue
        names.update(
            name
            for name, number in zip(node.proto.input, node.inputs, strict=False)
            if number in reached
        )
    return frozenset(names)


def _apart(
    a: np.ndarray, b: np.ndarray, moved: Sequence[np.ndarray], largest: float, *, alone: bool
) -> Driven:
    """Return the largest deviation, of all channels, in floors of its channel."""
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return Driven(math.inf, reason="it is NaN or infinite at other places than the original's")
    if not a.size:
        return Driven(0.0)
    if 2 * np.count_nonzero(finite) < a.size:
        raise UnjudgedError("most of its values are NaN or infinite on random inputs")
    if not finite.all():
        a, b = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
        moved = [np.where(finite & np.isfinite(m), m, a) for m in moved]
    deviation = np.abs(a - b)
    moves = [np.abs(other - a) for other in moved if other.shape == a.shape]
    unit = max((float(move.max()) for move in moves), default=0.0) or 1.0
    square = np.zeros(a.shape)  # in units, for squares of tiny numbers are 0
    for move in moves:
        square += (move / unit) ** 2
    square /= max(len(moved), 1)
    tiny = _RESOLUTION * float(np.abs(a).max()) + _CANCELLED * largest
    excess = np.maximum(deviation - tiny, 0.0)
    if alone:
        groups: list[tuple[int, ...]] = [()]
    elif a.ndim == 3:
        groups = [(0, 2), (0, 1)]
    else:
        groups = [tuple(axis for axis in range(a.ndim) if axis != 1)]
    worst = Driven(0.0)
    for axes in groups:
        floor = unit * np.sqrt(square.mean(axis=axes, keepdims=True) if axes else square)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(excess > 0, excess / floor, 0.0)
        place = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        value = float(ratio[place])
        if value > worst.floors:
            channel = int(place[1]) if a.ndim > 1 else None
            where = f"[{', '.join(map(str, map(int, place)))}]"
            share = float(excess.max()) / max(float(np.abs(a).max()), _TINIEST)
            worst = Driven(value, where, channel, share=share)
    return worst


_STRAIGHT = LINEAR | SUMS | MOVES | BLOCKS | {
    "AveragePool", "BatchNormalization", "GlobalAveragePool", "Mul", "Neg", "Pad", "ReduceMean",
    "ReduceSum", "Resize", "Shape",
}  # fmt: skip

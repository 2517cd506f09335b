"""Driving a region: both models' nodes in float64 on the same values of the frontier.

Values are arbitrary within what is known of a tensor (:mod:`normswap.proof.facts`), of several
scales, so that each side of every kink is reached (:mod:`normswap.proof.coverage`). What rounding
the region's own weights does is the measure: the deviation of an element against how far (root
mean square) its channel moves when each weight is moved within half a unit in its last place.

Where constants differ, the channels of what is read are also driven one after the other (or few at
a time), so that one weight can't hide behind a thousand others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import is_float
from normswap.proof.budget import NODE
from normswap.proof.coverage import Coverage
from normswap.proof.evaluate import UnjudgedError, evaluate
from normswap.proof.flat import NONE
from normswap.proof.frontier import VALUES, Frontier
from normswap.proof.movement import SAMPLES, Movement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from normswap.proof.facts import Facts
    from normswap.proof.flat import FlatNode
    from normswap.proof.regions import Cone, RegionPair

_RESOLUTION = 1e-12  # of float64, in parts of what a region makes
_TINIEST = 1e-300
_STILL = 1e-12  # squares, in parts of the largest one of a channel
_CANCELLED = 4e-16  # and of what it reads, which may cancel

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
    pair: RegionPair, limit: float, scaled: Callable[[np.ndarray], np.ndarray] | None = None
) -> Driven:
    """Drive a region until it is apart by more than a limit of floors, or all has been.

    Parameters
    ----------
    pair : RegionPair
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


def first_made(pair: RegionPair) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], float]:
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
    def __init__(self, pair: RegionPair) -> None:
        self._pair = pair
        self._frontier = Frontier(pair)
        drawn = self._frontier.floats + self._frontier.flags
        self._coverages = []
        for cone in (pair.of_a, pair.of_b):
            names = _varying(cone, drawn)
            self._coverages.append(Coverage(names, names))
        self._refuse_rounding()
        self._movement = Movement(pair)
        self.work = 0.0

    def feeds(self) -> Iterator[tuple[Mapping[int, Any], bool]]:
        """Yield values by class, and whether samples are to be compared one by one."""
        return self._frontier.feeds(probing=self._movement.of_weights)

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
        once = self._frontier.work({kind: np.shape(feeds[kind]) for kind in self._frontier.floats})
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
            return VALUES
        each = a.size // max(a.shape[1] if a.ndim > 1 else 1, 1)
        return int(min(max(SAMPLES, VALUES // max(each, 1)), VALUES))

    def unseen(self) -> str:
        """Return what of the region nothing reached."""
        for coverage in self._coverages:
            for item in coverage.unseen():
                if item.whole and item.what:
                    return str(item)
        return ""


def _seer(coverage: Coverage, facts: Facts) -> Any:
    def see(node: FlatNode, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
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


def _mean_of_moving(square: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the mean along axes of what moves at all, which behind a Relu may be little."""
    if not axes:
        return square
    moving = square > _STILL * square.max(axis=axes, keepdims=True)
    count = np.maximum(np.count_nonzero(moving, axis=axes, keepdims=True), 1)
    mean: np.ndarray = square.sum(axis=axes, keepdims=True) / count
    return mean


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
        floor = unit * np.sqrt(_mean_of_moving(square, axes))
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

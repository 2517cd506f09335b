"""What shows that two models differ: an input, and an output that is another one there.

Whole models differ in float64 by what rounding their constants does, however right a rewrite is.
Where all is equal but some regions, no more than these is compared. The rewritten model is then the
original with its own regions in the place of the original's: the channels in which the two are
apart by more than rounding these regions' constants explains. If an output moves by more than
rounding these channels moves it, the models are two functions, however little of it whole networks
let through. If none does, as where a scale is taken out again by a normalization, that says
nothing.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from normswap.dtypes import NUMPY_DTYPES, is_float
from normswap.proof.evaluate import UnjudgedError, constant_of, evaluate, stored_types
from normswap.proof.flat import NONE
from normswap.proof.movement import SAMPLES, Movement
from normswap.proof.result import Witness
from normswap.proof.simulate import simulate, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from normswap.proof.budget import Budget
    from normswap.proof.comparing import Number
    from normswap.proof.numbering import Side
    from normswap.proof.regions import RegionPair
    from normswap.proof.simulate import Simulated

_PLAIN = 64.0  # weight-rounding floors of a whole model that no rewrite is off by
_RESOLUTION = 1e-9  # parts of the largest value, of two whole models in float64
_FLOORS = 8.0  # and of single regions, root mean square against root mean square
_FINEST = 1e-12  # parts of the largest value, of one model with other regions in it
_SCALES = (0.0, -1.0, 8.0, -8.0, 64.0, -64.0, 1000.0, -1000.0)


def witness(a: Side, b: Side, feeds: Iterable[Mapping[str, Any]], budget: Budget) -> Witness | None:
    """Return the output in which two models differ most on an input, beyond float64's rounding.

    Parameters
    ----------
    a, b : Side
        The original and the rewritten model.
    feeds : iterable of mapping of str to numpy.ndarray
        Inputs that are tried until the original takes them.
    budget : Budget
        See :func:`normswap.proof.simulate.simulate`.
    """
    values, original = taken(a, feeds, budget)
    rewritten = simulate(b, values, budget=budget)
    moved = [simulate(a, values, budget=budget, sample=n) for n in range(1, 1 + SAMPLES)]
    found = []
    for name, one in original.outputs.items():
        off = _off(one, rewritten.outputs.get(name))
        if off is not None and off.max() > _RESOLUTION * np.abs(one).max():
            plain = off.max() > _PLAIN * _floor(name, one, moved)
            found.append(Witness(name, float(off.max()), float(np.abs(one).max()), bool(plain)))
    return max(found, key=lambda one: (one.is_plain, one.share), default=None)


@dataclass(frozen=True, slots=True)
class Apart:
    """A region that is another function.

    Attributes
    ----------
    pair : RegionPair
    number : Number or None
        A number of a constant that differs, where constants are all that does.
    """

    pair: RegionPair
    number: Number | None = None


def shown(
    regions: Sequence[Apart],
    outputs: Collection[str],
    homes: Mapping[int, int],
    feeds: Iterable[Mapping[str, Any]],
    budget: Budget,
    *,
    vary: bool = True,
) -> Witness | None:
    """Return an output that plainly differs, where all is equal but some regions.

    Parameters
    ----------
    regions : sequence of Apart
        None may be left out.
    outputs : collection of str
        What is equal but for them.
    homes : mapping of int to int
        A tensor of the original for each of its classes.
    feeds, budget
        As of :func:`witness`.
    vary : bool
        Whether values may be larger or 0, and conditions and indices others, than in the feeds.
    """
    a = regions[0].pair.a
    values, _ = taken(a, feeds, budget)
    places = dict.fromkeys(at for each in regions if each.number for at in each.number.place)
    for tried in _varied(values, places) if vary else [values]:
        parts = {each.pair.of_a.target: _Part(each, homes) for each in regions}
        found = _on(a, tried, parts, outputs, budget)
        if found is not None:
            return found
    return None


def _on(
    a: Side,
    values: Mapping[str, Any],
    parts: Mapping[int, _Part],
    outputs: Collection[str],
    budget: Budget,
) -> Witness | None:
    """Compare the original on an input with itself with other regions in it."""
    read = frozenset().union(*(part.reads for part in parts.values()))
    run = functools.partial(simulate, a, values, budget=budget, kept=read)
    original = run().outputs
    other = run(instead={number: part.made for number, part in parts.items()}).outputs
    apart = {
        name: (one, off)
        for name, one in original.items()
        if name in outputs
        and (off := _off(one, other.get(name))) is not None
        and off.max() > _FINEST * np.abs(one).max()
    }
    if not apart:
        return None
    if len(parts) > 1:
        # One region may take out what another does, though not in channels that it was left out in.
        whole = run(instead={number: part.whole for number, part in parts.items()}).outputs
    else:
        whole = other
    moved = [
        run(instead={n: functools.partial(part.moved, sample) for n, part in parts.items()})
        for sample in range(2 * SAMPLES)
    ]
    found = [
        Witness(name, float(off.max()), float(np.abs(one).max()), is_plain=True)
        for name, (one, off) in apart.items()
        if all(
            np.sqrt(np.square(each).mean()) > _FLOORS * _floor(name, one, moved)
            for each in (off, _off(one, whole.get(name)))
            if each is not None
        )
    ]
    return max(found, key=lambda one: one.share, default=None)


def _off(one: np.ndarray, other: np.ndarray | None) -> np.ndarray | None:
    """Return how far two results are apart; None where they can't be compared."""
    if other is None or one.dtype != np.float64 or one.shape != other.shape or not one.size:
        return None
    off: np.ndarray = np.abs(one - other)
    return off if math.isfinite(off.max()) else None


def _floor(name: str, one: np.ndarray, samples: Sequence[Simulated]) -> float:
    """Return how far (root mean square) rounding moves an output; infinity where that is open."""
    return max(
        float(np.sqrt(np.square(sample.outputs[name] - one).mean()))
        if name in sample.outputs
        else math.inf
        for sample in samples
    )


def _varied(values: Mapping[str, Any], places: Iterable[int]) -> Iterator[Mapping[str, Any]]:
    """Yield inputs that reach more: other conditions, larger values or none, certain indices."""

    def changed(given: Mapping[str, Any], kind: str, change: Callable[[Any], Any]) -> Any:
        return {
            name: change(v) if isinstance(v, np.ndarray) and v.dtype.kind == kind else v
            for name, v in given.items()
        }

    kinds = {value.dtype.kind for value in values.values() if isinstance(value, np.ndarray)}
    flipped = [values, changed(values, "b", np.logical_not)] if "b" in kinds else [values]
    yield from flipped
    if "i" in kinds:
        for place in places:
            yield changed(values, "i", functools.partial(np.full_like, fill_value=place))
    for scale in _SCALES if "f" in kinds else ():
        for given in flipped:
            yield changed(given, "f", functools.partial(np.multiply, scale))


class _Part:
    """A region of the rewritten model that takes the place of the original's.

    Parameters
    ----------
    apart : Apart
    homes : mapping of int to int
        See :func:`shown`.

    Attributes
    ----------
    reads : set of int
        The original's tensors that it is made of.
    """

    def __init__(self, apart: Apart, homes: Mapping[int, int]) -> None:
        self._pair = pair = apart.pair
        self._number = apart.number
        own = {kind: number for number, kind in pair.of_a.frontier.items()}
        known = {**homes, **own}
        self._sources = {n: known.get(kind, NONE) for n, kind in pair.of_b.frontier.items()}
        self._moves: list[np.ndarray] = []
        self.reads = {*pair.of_a.frontier, *self._sources.values()}

    def made(self, known: Mapping[int, Any]) -> np.ndarray | None:
        """Return what it makes in channels that are plainly others, and else the original's."""
        pair = self._pair
        try:
            of_a = {number: known[number] for number in pair.of_a.frontier}
            of_b = {number: known[source] for number, source in self._sources.items()}
            one, other = evaluate(pair.a, pair.of_a, of_a), evaluate(pair.b, pair.of_b, of_b)
            if not _are_numbers(one, other):
                return None
            single = self._of_number(of_b, other)
            if single is not None:  # nothing else is put in
                change, move = single
                self._moves = [move]
                return np.asarray(change + one)
            moved = Movement(pair).of(of_a, of_b, (one, other), SAMPLES)
            self._moves = [m - one for m in moved]
            for sample in range(1, 1 + SAMPLES):
                again = evaluate(pair.b, pair.of_b, of_b, sample=sample)
                self._moves.append(again - other)
        except (KeyError, UnjudgedError):
            return None
        apart = self._where(one, other)
        self._moves = [np.where(apart, move, 0.0) for move in self._moves]
        mixed: np.ndarray = np.where(apart, other, one)
        return mixed

    def whole(self, known: Mapping[int, Any]) -> np.ndarray | None:
        """Return what it makes, in all channels."""
        try:
            of_b = {number: known[source] for number, source in self._sources.items()}
            other = evaluate(self._pair.b, self._pair.of_b, of_b)
        except (KeyError, UnjudgedError):
            return None
        return other if isinstance(other, np.ndarray) else None

    def _of_number(
        self, of_b: Mapping[int, Any], other: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return what the only number that is off makes, and what rounding that number makes."""
        pair, number = self._pair, self._number
        if number is None or number.count > 1 or not math.isfinite(number.wanted):
            return None
        floats = (n for n in sorted(pair.of_b.constants) if is_float(pair.b.flat.types[n]))
        for constant in floats:
            stored = np.array(constant_of(pair.b, constant))
            for shape, place in ((number.shape, number.place), _turned(number)):
                if stored.shape != shape or stored[place] != number.stored:
                    continue
                kinds = [NUMPY_DTYPES[kind] for kind in stored_types(pair.b, constant)]
                unit = max(float(ml_dtypes.finfo(kind).eps) / 2 for kind in kinds)
                least = unit * max(abs(number.stored), abs(number.wanted))
                made = []
                for value in (number.wanted, number.stored + least):
                    stored[place] = value
                    made.append(evaluate(pair.b, pair.of_b, {**of_b, constant: stored}) - other)
                return -made[0], made[1]
        return None

    def moved(self, sample: int, known: Mapping[int, Any]) -> np.ndarray | None:
        """Return what the original's makes, moved by rounding there; after :meth:`made`."""
        try:
            of_a = {number: known[number] for number in self._pair.of_a.frontier}
            one = evaluate(self._pair.a, self._pair.of_a, of_a)
        except (KeyError, UnjudgedError):
            return None
        move = self._moves[min(sample, len(self._moves) - 1)] if self._moves else None
        if move is None or move.shape != one.shape:  # of a body that ran otherwise
            return None
        moved: np.ndarray = one + move
        return moved

    def _where(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return which elements are of channels that are apart by more than rounding."""
        # With three axes channels may be the last one, or the second.
        channels = {min(1, one.ndim - 1), one.ndim - 1 if one.ndim == 3 else 1}
        apart: np.ndarray = np.zeros(one.shape, bool)
        least = _FINEST * float(np.abs(one).max(initial=0.0))
        for channel in channels:
            others = tuple(axis for axis in range(one.ndim) if axis != channel)
            floor = functools.reduce(np.maximum, [_rms(move, others) for move in self._moves])
            apart |= _rms(one - other, others) > _FLOORS * floor + least
        return apart


def _turned(number: Number) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape and place of a number where its array is stored transposed."""
    return number.shape[::-1], number.place[::-1]


def _rms(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    found: np.ndarray = np.sqrt(np.square(values).mean(axis=axes, keepdims=True))
    return found


def _are_numbers(one: Any, other: Any) -> bool:
    """Whether two values are floats of one shape, and numbers throughout."""
    return (
        isinstance(one, np.ndarray)
        and isinstance(other, np.ndarray)
        and one.dtype == other.dtype == np.float64
        and one.shape == other.shape
        and bool(np.isfinite(one).all() and np.isfinite(other).all())
    )

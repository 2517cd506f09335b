"""The running statistics of a network on data, as those of all data as one batch.

The statistics of a layer are the mean and population variance, by channel, of all that comes to it
while every layer before it normalizes by *its* new statistics (Wu and Johnson, "Rethinking Batch in
BatchNorm", 2021, section 3: PreciseBN, here with no approximation left). So the layers are gone
through level by level (:mod:`normswap.groupnorm.levels`), with a pass over the data for each, and
neither the size of batches nor their order counts.

A pass starts where the one before it ended: what it needs of the network before the level is kept
for each batch, as far as there is room; a batch without runs from its inputs.

Where a layer depends on itself, its statistics are those that reproduce themselves: passes are
repeated until they do.

With a momentum, each batch is such a data set of its own, and its statistics move the running ones
(ONNX operator BatchNormalization, opset 15)::

    running = momentum * running + (1 - momentum) * current
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import NUMPY_DTYPES, round_to
from normswap.errors import DataError
from normswap.files.scratch import scratch_folder
from normswap.finite import flaw_of
from normswap.graph.mode import mode_of
from normswap.groupnorm.opened import open_statistics
from normswap.runtime.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from normswap.groupnorm.opened import Opened
    from normswap.groupnorm.recalibrate import RecalibrateOptions
    from normswap.groupnorm.statistics import SharedStatistics
    from normswap.inputs.data import Dataset
    from normswap.inputs.random import Case
    from normswap.progress import Progress

    Batches = Callable[[], Iterable[Case]]
    Vectors = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

ROOM = 1 << 30
"""Bytes of activations that are kept from one pass to the next."""

ROUNDS = 50
"""How often the passes for layers that depend on themselves are repeated at most."""

SETTLED = 1e-5
"""Deviations (and variances, relatively) by which their statistics may move in the last one."""


MOVED = 1e-3
"""Deviations by which the mean of a channel moves where another sample takes its place."""

PLACES = "its channels hold samples, so it has statistics per sample and not per channel"
NOTHING = "no sample of this data reaches it"
UNSEEN = "onnxruntime can't return its input"
UNSETTLED = f"its statistics depend on themselves, and did not converge in {ROUNDS} passes"


class RunningStatistics:
    """Mean and population variance by channel of elements that come bit by bit.

    Two sets are merged by the update of Chan, Golub and LeVeque (1983), in which large means don't
    cancel; a set of negative weight is taken out again.

    Parameters
    ----------
    channels : int

    Attributes
    ----------
    mean, var : (C,) ndarray of float64
    count : float
        Elements of a channel, by weight.
    """

    def __init__(self, channels: int) -> None:
        self.mean = np.zeros(channels)
        self.var = np.zeros(channels)
        self.count = 0.0

    @np.errstate(invalid="ignore", over="ignore")  # what is not finite is refused in the end
    def add(
        self, mean: npt.NDArray[np.float64], var: npt.NDArray[np.float64], count: float
    ) -> None:
        """Take in the statistics of `count` elements a channel."""
        share = count / (self.count + count)
        shift = mean - self.mean
        # The law of total variance: within the sets, and between them.
        self.var = (1 - share) * self.var + share * var + share * (1 - share) * shift**2
        self.mean = self.mean + share * shift
        self.count += count

    @np.errstate(invalid="ignore", over="ignore")
    def observe(self, x: npt.NDArray[Any], weight: float) -> None:
        """Take in activations.

        Parameters
        ----------
        x : (N, C, *spatial) ndarray
        weight : float
            How often they count.
        """
        if x.size:
            others = (0, *range(2, x.ndim))
            wide = x.astype(np.float64)
            mean = wide.mean(axis=others, keepdims=True)
            wide -= mean
            np.square(wide, out=wide)
            self.add(mean.reshape(-1), wide.mean(axis=others), weight * x.size / x.shape[1])

    def observe_summaries(self, values: npt.NDArray[np.float64], weight: float) -> None:
        """Take in counts, means and variances of activations.

        Parameters
        ----------
        values : ndarray of any number of times 3 C
        weight : float
        """
        for count, mean, var in values.reshape(-1, 3, len(self.mean)):
            if count[0]:
                self.add(mean, var, weight * count[0])


def estimate(
    original: Path,
    layers: Sequence[SharedStatistics],
    data: Dataset,
    options: RecalibrateOptions,
    progress: Progress,
    *,
    summed: bool = False,
) -> tuple[list[Vectors | str], int]:
    """Estimate the statistics of every layer.

    Parameters
    ----------
    original : Path
        The model in which the layers were found.
    layers : sequence of SharedStatistics
    data : Dataset
    options : RecalibrateOptions
    progress : callable
    summed : bool
        Whether the runtime sums up what comes to a layer, so that it need not leave it: where many
        layers are looked at in one pass.

    Returns
    -------
    list of (mean, var) or str
        ``(C,)`` each, as they are stored, in float64; or why the data gives none.
    int
        How many samples they are of.

    Raises
    ------
    DataError
        There is no data, or statistics are not finite, or not in the type of the old ones.
    RunError, RunTimeoutError
        The runtime can't run the network.
    """
    lost: dict[int, str] = {}  # by number of the layer
    while True:
        numbers = [number for number in range(len(layers)) if number not in lost]
        found, samples, more = _attempt(
            original, [layers[number] for number in numbers], data, options, progress, summed
        )
        if not more:
            break
        # A layer that keeps what it has is to the others what it will be in the model.
        lost |= {numbers[number]: why for number, why in more.items()}
    results = dict(zip(numbers, found, strict=True))
    return [lost.get(n) or results[n] for n in range(len(layers))], round(samples)


def _attempt(
    original: Path,
    layers: Sequence[SharedStatistics],
    data: Dataset,
    options: RecalibrateOptions,
    progress: Progress,
    summed: bool,
) -> tuple[list[Vectors | str], float, dict[int, str]]:
    """Estimate the statistics of layers, up to the first that turn out to have none.

    Returns
    -------
    list of (mean, var) or str
    float
        How many samples they are of.
    dict of int to str
        The layers that have to keep what they have, by number, and why.
    """
    with scratch_folder() as folder:
        opened = _to_the_end(open_statistics(original, layers, folder, summed=summed))
        unseen = {number: UNSEEN for number, found in enumerate(opened.taps) if not found}
        if unseen:
            return [], 0, unseen
        taps = {tap.tensor: tap.data_type for found in opened.taps for tap in found}
        for frontier in opened.frontiers or ():
            taps |= frontier
        with Session(
            opened.path,
            label="the model that statistics are estimated in",
            taps=taps,
            alike=True,
            remembered=4 if options.momentum is None else 2 * len(opened.levels) + 2,
            timeout=options.timeout,
        ) as session:
            if options.momentum is None:
                walk = _Walk(session, opened, layers, progress)
                return walk.through(partial(data.cases, filled=True)), walk.samples, walk.lost
            return _running(session, opened, layers, data, options.momentum, progress)


def _to_the_end(opened: Opened) -> Opened:
    """Let nothing be kept behind the last level, unless that is gone through again."""
    again = opened.levels and not opened.recurring.keys().isdisjoint(opened.levels[-1])
    if opened.frontiers is None or again:
        return opened
    return replace(opened, frontiers=[*opened.frontiers[:-1], {}])


def _running(
    session: Session,
    opened: Opened,
    layers: Sequence[SharedStatistics],
    data: Dataset,
    momentum: float,
    progress: Progress,
) -> tuple[list[Vectors | str], float, dict[int, str]]:
    """Move the statistics that the model has by those of each batch."""
    running: list[Vectors | str] = [NOTHING for _ in layers]
    samples = 0.0
    for first, batch in enumerate(data.cases(), start=1):
        walk = _Walk(session, opened, layers, progress, first)
        found = walk.through(partial(iter, [batch]))
        if walk.lost:
            return [], 0, walk.lost
        for number, current in enumerate(found):
            before = running[number]
            if not isinstance(current, str):
                before = layers[number].old() if isinstance(before, str) else before
                mean, var = (
                    momentum * old + (1 - momentum) * new
                    for old, new in zip(before, current, strict=True)
                )
                running[number] = mean, var
            elif isinstance(before, str):
                running[number] = current
        samples += walk.samples
    stored = [
        pair if isinstance(pair, str) else _stored(layer, pair)
        for layer, pair in zip(layers, running, strict=True)
    ]
    return stored, samples, {}


class _Walk:
    """Goes through a network level by level, with all batches at each.

    Parameters
    ----------
    session, opened, layers, progress
        What is gone through, and who is told.
    first : int
        Number of the first batch, for people.

    Attributes
    ----------
    samples : float
        How many the batches have.
    lost : dict of int to str
        Layers for which there are no statistics, and why: beyond them it does not go.
    """

    def __init__(
        self,
        session: Session,
        opened: Opened,
        layers: Sequence[SharedStatistics],
        progress: Progress,
        first: int = 1,
    ) -> None:
        self.samples = 0.0
        self.lost: dict[int, str] = {}
        self._session = session
        self._opened = opened
        self._layers = layers
        self._progress = progress
        self._first = first
        self._fixed = [_usable(*layer.old()) for layer in layers]
        self._first_batch: Case
        self._weights: list[float] = []  # of the batches
        self._kept: dict[int, dict[str, npt.NDArray[Any]]] = {}  # by the number of the batch
        self._level = 0  # whose frontier that is
        self._room = ROOM
        self._hold(range(len(layers)))

    def through(self, batches: Batches) -> list[Vectors | str]:
        """Return the statistics of every layer, or why there are none."""
        found: list[Vectors | str] = [NOTHING for _ in self._layers]
        for level, numbers in enumerate(self._opened.levels, start=1):
            pending = set(numbers)
            for turn in range(1, ROUNDS + 1):
                statistics = self._pass(level, turn, batches)
                moved = {n for n in pending if self._fix(n, statistics[n], found)}
                # A layer that depends on itself is done with all that it depends on in turn.
                groups = {self._opened.recurring.get(number) for number in moved} - {None}
                pending = {n for n in pending if self._opened.recurring.get(n) in groups}
                if not pending:
                    break
            self.lost |= dict.fromkeys(pending, UNSETTLED)
            if self.lost:
                break
        return found

    def _fix(self, number: int, statistics: RunningStatistics, found: list[Vectors | str]) -> bool:
        """Give a layer new statistics, and return whether they are others than those it had."""
        if not statistics.count:
            return False
        layer, (mean, var) = self._layers[number], self._fixed[number]
        try:
            new_mean, new_var = _stored(layer, (statistics.mean, statistics.var))
        except DataError:
            if number in self._opened.recurring:  # it has run away
                return True
            raise
        self._fixed[number] = found[number] = new_mean, new_var
        self._hold([number])
        spread = new_var + layer.epsilon
        far = np.abs(new_mean - mean) > SETTLED * np.sqrt(spread)
        return bool((far | (np.abs(new_var - var) > SETTLED * spread)).any())

    def _pass(self, level: int, turn: int, batches: Batches) -> dict[int, RunningStatistics]:
        """Go through all batches once, for the layers of a level."""
        numbers = self._opened.levels[level - 1]
        found = {number: RunningStatistics(len(self._fixed[number][0])) for number in numbers}
        where = f"level {level} of {len(self._opened.levels)}"
        where += f", pass {turn}" if turn > 1 else ""
        for index, batch in enumerate(self._again(batches)):
            self._progress(f"estimating statistics, {where}, batch {index + self._first}")
            values = self._run(index, level, batch.feeds)
            if not index and turn == 1:
                self.lost |= {n: PLACES for n in numbers if self._goes_by_place(n, values)}
            for number, statistics in found.items():
                for tap in self._opened.taps[number]:
                    take = statistics.observe_summaries if tap.is_summary else statistics.observe
                    take(values[tap.tensor], batch.weight)
        self._level = level
        return found

    def _goes_by_place(self, number: int, values: Mapping[str, npt.NDArray[Any]]) -> bool:
        """Whether a layer's channels are samples: whether their means go with the samples.

        :func:`normswap.graph.batchnorm.require_samples` knows it from sizes, where these are known.
        """
        samples = self._first_batch.samples
        is_training = any(mode_of(node).is_training for node in self._layers[number].nodes)
        for tap in self._opened.taps[number]:
            x = values[tap.tensor]
            if tap.is_summary or samples < 2 or len(x) != 1 or x.shape[1] % samples:
                continue
            if x.shape[1] == samples and not is_training:
                continue  # rather an image without a batch
            turned = {
                # Vectors may be sizes, or the like.
                name: value[::-1] if name in self._first_batch.sampled and value.ndim > 1 else value
                for name, value in self._first_batch.feeds.items()
            }
            y = self._session.run(turned, [tap.tensor])[tap.tensor]
            if y.shape != x.shape:
                continue
            before, after = RunningStatistics(x.shape[1]), RunningStatistics(x.shape[1])
            before.observe(x, 1.0)
            after.observe(y, 1.0)
            if (np.abs(after.mean - before.mean) > MOVED * np.sqrt(before.var)).any():
                return True
        return False

    def _again(self, batches: Batches) -> Iterator[Case]:
        """Yield the batches; without what they feed, where nothing of that is needed any more."""
        if self._weights and len(self._kept) == len(self._weights):
            yield from (replace(self._first_batch, feeds={}, weight=w) for w in self._weights)
            return
        for batch in batches():
            if not self._level:
                if not self._weights:
                    self._first_batch = batch
                self._weights.append(batch.weight)
                self.samples += batch.weight * batch.samples
            yield batch

    def _run(self, index: int, level: int, feeds: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Return what a batch brings to the taps, and keep what the next level needs of it."""
        frontiers = self._opened.frontiers
        next_ = {} if frontiers is None else frontiers[level]
        kept = self._kept.pop(index, None)
        given = feeds if kept is None else kept
        numbers = self._opened.levels[level - 1]
        taps = {tap.tensor for number in numbers for tap in self._opened.taps[number]}
        values = dict(given)
        names = sorted((taps | next_.keys()) - given.keys())
        if names:
            values |= self._session.run(given, names)
        if frontiers is not None:
            self._room += sum(value.nbytes for value in (kept or {}).values())
            keep = {name: values[name] for name in next_}
            size = sum(value.nbytes for value in keep.values())
            if size <= self._room:
                self._kept[index] = keep
                self._room -= size
        return values

    def _hold(self, numbers: Iterable[int]) -> None:
        """Let layers normalize by what they have by now."""
        named = ((self._opened.inputs[number], self._fixed[number]) for number in numbers)
        pairs = (zip(names, fixed, strict=True) for names, fixed in named)
        self._session.hold(dict(pair for both in pairs for pair in both))


def _usable(mean: npt.NDArray[np.float64], var: npt.NDArray[np.float64]) -> Vectors:
    """Return statistics to begin with: the old ones, or trivial ones where they are none."""
    is_sound = np.isfinite(mean) & np.isfinite(var) & (var >= 0)
    return np.where(is_sound, mean, 0.0), np.where(is_sound, var, 1.0)


def _stored(layer: SharedStatistics, statistics: Vectors) -> Vectors:
    """Return statistics as they will be read from the model.

    Raises
    ------
    DataError
        They are not finite, or not in their type.
    """
    stored = []
    for values, source, what in zip(
        statistics, layer.sources, ("input_mean", "input_var"), strict=True
    ):
        dtype = NUMPY_DTYPES[source.data_type]
        flaw = flaw_of(f"the new {what} of {layer.nodes[0].title}", values, dtype)
        if flaw is not None:
            raise DataError(
                f"On this data {flaw}.",
                tip="The network overflows on this data. Scale the data as in training, or leave "
                "out samples with extreme values.",
            )
        stored.append(round_to(values, source.data_type).astype(np.float64))
    mean, var = stored
    return mean, np.maximum(var, 0.0)

"""Refit the affine of every layer, so that the swapped network follows the original on real data.

For channel c of a layer, with n the normalized activation and z what the BatchNormalization of the
original network gives for the same element::

    minimize sum (scale * n + bias - z)^2      =>      scale = cov(n, z) / var(n)
                                                       bias  = mean(z) - scale * mean(n)

over all elements of the channel in all samples. Layer by layer, each with the refitted ones before
it in place, so that later layers make up for what earlier ones could not; or, in one pass, with n
from the activations of the original network.

A layer that is used twice (several nodes read the same scale, B, mean and variance) gets one
affine. One number of groups has a layer that is used twice, or in a function, however many calls
hand in a scale and bias of their own: that which is best for all of them, as far as they have been
gone through.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from normswap.dtypes import NUMPY_DTYPES, round_to
from normswap.errors import DataError
from normswap.files.scratch import scratch_folder
from normswap.finite import flaw_of
from normswap.groupnorm.layer import elements_of_group
from normswap.groupnorm.options import FittedAffine
from normswap.groupnorm.policy import divisors
from normswap.groupnorm.reference import normalize
from normswap.groupnorm.refit.course import Course
from normswap.groupnorm.refit.occurrences import occurrences
from normswap.groupnorm.refit.opening import open_pair
from normswap.groupnorm.words import SHARE
from normswap.runtime.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from normswap.groupnorm.layer import Layer
    from normswap.groupnorm.normalize import Place
    from normswap.groupnorm.plan import SwapPlan
    from normswap.groupnorm.refit.course import Tensors
    from normswap.groupnorm.refit.networks import Pair, Problem, TappedNetwork
    from normswap.groupnorm.refit.products import Scaling
    from normswap.progress import Progress

    Batches = Iterable[Mapping[str, Any]]


CHUNK = 16
"""Layers whose tensors are fetched at once in the one-pass variant."""


class PairMoments:
    """Running means and second moments of pairs (n, z) by channel.

    Batches are merged by the update of Chan, Golub and LeVeque (1983), so that large means don't
    cancel and memory does not grow with the data.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = np.zeros((2, channels))
        self.nn = np.zeros(channels)
        self.nz = np.zeros(channels)
        self.zz = np.zeros(channels)

    def add(self, n: npt.NDArray[Any], z: npt.NDArray[Any]) -> None:
        """Take in a batch.

        Parameters
        ----------
        n, z : (N, C, *spatial) ndarray
        """
        with np.errstate(invalid="ignore", over="ignore"):  # a fit that is not finite is refused
            self._add(n, z)

    def _add(self, n: npt.NDArray[Any], z: npt.NDArray[Any]) -> None:
        channels = n.shape[1]
        pair = [np.moveaxis(v.astype(np.float64), 1, 0).reshape(channels, -1) for v in (n, z)]
        count = pair[0].shape[1]
        mean = np.stack([v.mean(axis=1) for v in pair])
        a, b = (v - m[:, None] for v, m in zip(pair, mean, strict=True))
        total = self.count + count
        shift = mean - self.mean
        weight = self.count * count / total
        self.nn += np.einsum("ce,ce->c", a, a) + weight * shift[0] ** 2
        self.nz += np.einsum("ce,ce->c", a, b) + weight * shift[0] * shift[1]
        self.zz += np.einsum("ce,ce->c", b, b) + weight * shift[1] ** 2
        self.mean += shift * (count / total)
        self.count = total

    def fit(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the scale and bias of least squares.

        A channel whose n never varies gets scale 0: the best that is left is the mean of z.
        """
        varies = ~(self.nn == 0)  # NaN counts, so that it is not lost
        with np.errstate(invalid="ignore", over="ignore"):
            scale = np.divide(self.nz, self.nn, out=np.zeros_like(self.nn), where=varies)
            return scale, self.mean[1] - scale * self.mean[0]

    @property
    def loss(self) -> float:
        """Sum of squares that the fit leaves."""
        with np.errstate(invalid="ignore", over="ignore"):
            explained = np.divide(
                self.nz**2, self.nn, out=np.zeros_like(self.nn), where=self.nn > 0
            )
            return float(np.maximum(self.zz - explained, 0).sum())


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """How layers are refitted.

    Attributes
    ----------
    one_pass : bool
        Fit all layers to the activations of the original network, in a single pass over the data.
    search_groups : bool
        Give every layer the number of groups, of all that divide its channels, with which the fit
        is best.
    timeout : float
        Seconds for one run.
    refit : bool
        Fit the weights of linear layers too; see :mod:`normswap.groupnorm.refit`.
    holdout : float or str
        The share of the samples that is held out, to judge by; or the name of an array of the data
        that says what each sample belongs to, so that no unit is on both sides.
    """

    one_pass: bool = False
    search_groups: bool = False
    timeout: float = 600.0
    refit: bool = False
    holdout: float | str = SHARE

    @property
    def units(self) -> str | None:
        """The name of the array that says what samples belong to, if there is one."""
        return self.holdout if isinstance(self.holdout, str) else None


def calibrate(
    original: Path,
    plan: SwapPlan,
    batches: Batches,
    how: CalibrationOptions,
    progress: Progress,
) -> dict[Place, FittedAffine]:
    """Fit the affine of every layer.

    Parameters
    ----------
    original : Path
        The model before the swap.
    plan : SwapPlan
        Of the swap.
    batches : iterable of feeds
        Gone through once for each level of layers, or once in all with
        `CalibrationOptions.one_pass`.
    how : CalibrationOptions
    progress : callable

    Returns
    -------
    dict of (str, str) to FittedAffine
        For `SwapOptions.affines`. Without the layers whose tensors nobody sees; of those that a
        function is handed the affine of only the number of groups, if one is searched.

    Raises
    ------
    DataError
        What is fitted to a layer is not finite.
    RunError
        The runtime can't run a model.
    """
    with scratch_folder() as folder:
        pair = open_pair(original, plan, folder, weights=False, affines=True, given=how.one_pass)
        fits = _Fits(pair, plan, how)
        with _session(pair.teacher, "the original model", how) as before:
            if how.one_pass:
                _one_pass(pair, before, batches, fits, progress)
            else:
                _in_order(original, pair, before, batches, how, fits, progress)
        return fits.found()


def _session(side: TappedNetwork, label: str, how: CalibrationOptions) -> Session:
    return Session(side.path, label=label, taps=side.taps, alike=True, timeout=how.timeout)


class _Joined:
    """Affines with one number of groups.

    Parameters
    ----------
    numbers : list of int
        Of their problems.
    layers : list of Layer
    how : CalibrationOptions

    Attributes
    ----------
    groups : int
        That number, by now.
    moments : dict of int to dict of int to PairMoments
        By number of groups, and number of the problem.
    """

    def __init__(self, numbers: list[int], layers: list[Layer], how: CalibrationOptions) -> None:
        first = layers[0]
        self._asked = self.groups = first.num_groups
        known = [(layer.shape, layer.channels) for layer in layers]
        self.moments = {
            groups: {number: PairMoments(first.channels) for number in numbers}
            for groups in (divisors(first.channels) if how.search_groups else [self.groups])
            if groups == self.groups or all(elements_of_group(*k, groups) != 1 for k in known)
        }

    def choose(self) -> None:
        """Let the number of groups be that which leaves the least; of equals, that asked for."""

        def left(groups: int) -> tuple[float, bool, int]:
            loss = sum(moments.loss for moments in self.moments[groups].values())
            return loss, groups != self._asked, groups

        self.groups = min(self.moments, key=left)


class _Fits:
    """The moments of every layer, those of one that is used several times together."""

    def __init__(self, pair: Pair, plan: SwapPlan, how: CalibrationOptions) -> None:
        self._problems, self._plan, self._how = pair.problems, plan, how
        swaps = {swap.place: swap for swap in plan.swaps}
        sets: list[tuple[set[tuple[str, ...]], list[int]]] = []
        for number, problem in enumerate(pair.problems):
            keys, numbers = {swaps[place].parameters for place in problem.affine}, [number]
            for other in [each for each in sets if each[0] & keys]:
                sets.remove(other)
                keys, numbers = keys | other[0], other[1] + numbers
            sets.append((keys, numbers))
        self._joined: dict[int, _Joined] = {}  # by number of the problem
        for _, numbers in sets:
            places = [place for number in numbers for place in pair.problems[number].affine]
            joined = _Joined(numbers, [swaps[place].alone for place in places], how)
            self._joined |= dict.fromkeys(numbers, joined)

    def add(self, number: int, here: Tensors, there: Tensors) -> None:
        """Take in a batch: what comes to a layer, and what is wanted of it."""
        for use in self._problems[number].uses:
            epsilon = cast("Scaling", use.product).epsilon
            asked = here[use.given or use.x], there[use.wanted]
            for x, z in occurrences(asked, by_turns=use.by_turns):
                for groups, moments in self._joined[number].moments.items():
                    n = normalize(x, num_groups=groups, epsilon=epsilon)
                    moments[number].add(n, z)

    def fit(self, numbers: Iterable[int]) -> bool:
        """Fit some layers to what came, and return whether numbers of groups are others now.

        Raises
        ------
        DataError
            What is fitted is not finite, or not in the type in which the layer computes.
        """
        joined = {id(self._joined[number]): self._joined[number] for number in numbers}
        before = {key: each.groups for key, each in joined.items()}
        for each in joined.values():
            each.choose()
            for number, moments in each.moments[each.groups].items():
                if moments.count:
                    self._take(self._problems[number], *moments.fit())
        return any(each.groups != before[key] for key, each in joined.items())

    @staticmethod
    def _take(problem: Problem, *fitted: npt.NDArray[np.float64]) -> None:
        for what, parameter, values in zip(
            ("scale", "bias"), problem.parameters, fitted, strict=True
        ):
            name = f"the fitted {what} of {problem.layer}"
            flaw = flaw_of(name, values, NUMPY_DTYPES[parameter.data_type])
            if flaw is not None:
                raise DataError(
                    f"On this data {flaw}.",
                    tip="The network overflows on this data. Scale the data as in training, or "
                    "leave out samples with extreme values.",
                )
            parameter.values = round_to(values, parameter.data_type)

    def regrouped(self) -> SwapPlan:
        """Return the plan with the numbers of groups that were found."""
        groups = {
            place: self._joined[number].groups
            for number, problem in enumerate(self._problems)
            for place in problem.affine
        }
        swaps = (
            replace(s, alone=replace(s.alone, num_groups=groups.get(s.place, s.num_groups)))
            for s in self._plan.swaps
        )
        return replace(self._plan, swaps=tuple(swaps))

    def found(self) -> dict[Place, FittedAffine]:
        """Return what was fitted."""
        found: dict[Place, FittedAffine] = {}
        for number, problem in enumerate(self._problems):
            joined = self._joined[number]
            moments = joined.moments[joined.groups][number]
            own = all(parameter.constant is None for parameter in problem.parameters)
            if own and moments.count:
                affine = FittedAffine(*moments.fit(), joined.groups)
            elif self._how.search_groups:
                affine = FittedAffine(num_groups=joined.groups)
            else:
                continue
            found |= dict.fromkeys(problem.affine, affine)
        return found


def _one_pass(
    pair: Pair, before: Session, batches: Batches, fits: _Fits, progress: Progress
) -> None:
    numbers = range(len(pair.problems))
    for batch, feeds in enumerate(batches, start=1):
        progress(f"calibrating, batch {batch}")
        for start in range(0, len(numbers), CHUNK):
            chunk = numbers[start : start + CHUNK]
            uses = [use for number in chunk for use in pair.problems[number].uses]
            names = sorted({name for use in uses for name in (use.given, use.wanted)})
            tensors = before.run(feeds, names)
            for number in chunk:
                fits.add(number, tensors, tensors)
    fits.fit(numbers)


def _in_order(
    original: Path,
    pair: Pair,
    before: Session,
    batches: Batches,
    how: CalibrationOptions,
    fits: _Fits,
    progress: Progress,
) -> None:
    teacher = Course(before, pair.teacher, batches)
    with contextlib.ExitStack() as life:

        def opened(pair: Pair) -> tuple[Session, Course]:
            after = life.enter_context(_session(pair.student, "the swapped model", how))
            return after, Course(after, pair.student, batches)

        after, student = opened(pair)
        for level, numbers in enumerate(pair.levels, start=1):
            problems = [pair.problems[number] for number in numbers]
            progress(f"calibrating {problems[0].layer}, level {level} of {len(pair.levels)}")
            _hold(after, pair)
            uses = [use for problem in problems for use in problem.uses]
            ours = student.advance(level, [use.x for use in uses])
            theirs = teacher.advance(level, [use.wanted for use in uses])
            for here, there in zip(ours, theirs, strict=True):
                for number in numbers:
                    fits.add(number, here, there)
            if fits.fit(numbers):  # written anew, with these numbers of groups
                life.close()
                folder = life.enter_context(scratch_folder())
                again = open_pair(original, fits.regrouped(), folder, weights=False, affines=True)
                after, student = opened(again)


def _hold(session: Session, pair: Pair) -> None:
    """Let a network have the affines that were fitted so far."""
    parameters = [p for problem in pair.problems for p in problem.parameters]
    session.hold({parameter.name: parameter.values for parameter in parameters})

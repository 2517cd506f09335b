"""Layer by layer: solve, try what came out on held-out samples, and keep what brings them nearer.

The teacher is the original network, the student the swapped one with all layers that were fitted so
far. Of every layer the rows are what comes to it in the student, the targets what the layer gives
in the teacher. Layers that don't depend on each other are on one level, and see the same pass.

Before that, where it takes no more time than a person waits, all weights, scales and biases are
fitted at once to what the network is there for: its outputs (:mod:`~.joint`), several times over,
since each time it is linearized where it has come to.

How much of a hold there is on the present weight is chosen by what a layer gives for the held-out
samples. A fit is taken whole, by half or by a quarter, whichever brings the outputs of these
nearest, and only if they come nearer at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.errors import DataError
from normswap.files.scratch import scratch_folder
from normswap.groupnorm.options import FittedAffine
from normswap.groupnorm.refit.course import Course
from normswap.groupnorm.refit.crew import at_work
from normswap.groupnorm.refit.equations import NormalEquations
from normswap.groupnorm.refit.joint import solutions
from normswap.groupnorm.refit.judge import judge
from normswap.groupnorm.refit.mixing import Mixed
from normswap.groupnorm.refit.occurrences import occurrences
from normswap.groupnorm.refit.opening import open_pair
from normswap.groupnorm.refit.outcome import Fit, FitStep, Refitted, Unfitted
from normswap.groupnorm.refit.targets import find_targets, theirs
from normswap.groupnorm.refit.unrolling import MOST as MOST_TURNS
from normswap.runtime.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from normswap.groupnorm.plan import SwapPlan
    from normswap.groupnorm.refit.course import Tensors
    from normswap.groupnorm.refit.crew import Crew
    from normswap.groupnorm.refit.holdout import Part
    from normswap.groupnorm.refit.judge import Verdict
    from normswap.groupnorm.refit.networks import Pair, Problem
    from normswap.groupnorm.refit.tangent import Route
    from normswap.progress import Progress

LAMS = (1e-1, 1e-2, 1e-3)
"""Holds on the present weight, which are loosened for as long as that helps."""

SHARES = (1.0, 0.5, 0.25)
"""What is tried of the way to a fit: of a layer half of it, and then all of it or less."""

LEAST = 2e-3
"""By what share the error of the held-out samples has to fall; less is chance."""

TIMES = 12
"""How often all is fitted to the outputs at once, at the most."""

IDLE = 2
"""How often in a row that may bring nothing, before it is ended."""

ROUNDS = (3, 6, 9, 13, 18)
"""Of conjugate gradients, after which what they have found is tried; they end where that is worse
than what was tried before."""

MOST = 4 * 10**9
"""Multiplications of a pass over the data for which that is done: some minutes each time."""

SAME = 1e-9
"""Energy of what a layer is off by, beside that of its results, that is but rounding."""

REPRODUCED = 1e-2
"""How far a layer's result may be from the product of its patches, beside its size."""


@dataclass(frozen=True, slots=True)
class RefitOptions:
    """How a network is fitted.

    Attributes
    ----------
    weights, affines : bool
        What is fitted: the weights of linear layers; the scale and bias of group normalizations.
    timeout : float
        Seconds for one run.
    """

    weights: bool = True
    affines: bool = True
    timeout: float = 600.0


def refit(
    original: Path,
    plan: SwapPlan,
    fit: Part,
    held_out: Part,
    how: RefitOptions,
    progress: Progress,
) -> Refitted:
    """Fit the layers of a swapped network to what they give in the original.

    Parameters
    ----------
    original : Path
        The model that was planned for.
    plan : SwapPlan
    fit, held_out : Part
        Samples to fit to, and others to judge every step by.
    how : RefitOptions
    progress : callable

    Raises
    ------
    DataError
        No output tells how near the networks are.
    RunError, RunTimeoutError
        The runtime can't run a network.
    """
    with scratch_folder() as folder:
        pair = open_pair(original, plan, folder, weights=how.weights, affines=how.affines)
        if not pair.outputs:
            raise DataError(
                "The model has no output of a float type, nor one of an ArgMax: there is nothing "
                "to judge a fit by.",
                tip="Leave out --calibrate: a swap without data needs no such output.",
            )
        common: dict[str, Any] = {"alike": True, "timeout": how.timeout, "remembered": 4}
        with (
            Session(
                pair.teacher.path, label="the original model", taps=pair.teacher.taps, **common
            ) as teacher,
            Session(
                pair.student.path, label="the swapped model", taps=pair.student.taps, **common
            ) as student,
        ):
            walk = _Walk(pair, teacher, student, fit, held_out, how.timeout, progress)
            walk.fit_outputs()
            walk.sweep()
            return walk.refitted()


def _changes(
    problem: Problem, delta: npt.NDArray[np.float64], shift: npt.NDArray[np.float64] | None
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the solution of a layer's own equations as what is added to each parameter."""
    changes = {problem.weight.name: problem.uses[0].product.weight(delta)}
    if problem.bias is not None and shift is not None:
        changes[problem.bias.name] = shift.reshape(-1)
    return changes


def _times(problem: Problem, here: Tensors, there: Tensors | None = None) -> Iterator[Any]:
    """Yield what came to a layer, what it gave and perhaps what it should, each time that it ran.

    Yields
    ------
    Product, ndarray, ndarray[, ndarray]
    """
    for use in problem.uses:
        wanted = () if there is None else (there[use.wanted],)
        asked = here[use.x], here[use.y], *wanted
        for found in occurrences(asked, by_turns=use.by_turns):
            if len({value.shape for value in found[1:]}) == 1:
                yield use.product, *found


def _hindrance(problem: Problem, route: Route) -> str:
    """Return why an affine was not fitted to the outputs, if it was not."""
    name = problem.weight.name
    if name in route.unknown and problem.is_hidden:
        return (
            f"a joint fit of all layers goes into a body only where its branch, or its number of "
            f"turns up to {MOST_TURNS}, is constant, and {route.unknown[name]} has none that is"
        )
    if name in route.unknown:
        return f"no derivative is known of {route.unknown[name]}, which comes after it"
    if name not in route.names:
        return "small changes of it are lost in the rounding of its type"
    return "a joint fit of all layers takes too long, or did not reduce the error"


_NOT_FINITE = "it has NaN or infinite values on this data"


@dataclass(slots=True)
class _Best:
    """The best candidate so far."""

    verdict: Verdict
    values: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    lam: float = 0.0
    share: float = 0.0

    def gain(self, now: Verdict) -> float:
        """Return by how much it is better than what there is, less what may be chance."""
        return self.verdict.gain(now)


class _Walk:
    def __init__(
        self,
        pair: Pair,
        teacher: Session,
        student: Session,
        fit: Part,
        held_out: Part,
        timeout: float,
        progress: Progress,
    ) -> None:
        self._pair = pair
        self._teacher = teacher
        self._student = student
        self._fit = fit
        self._held_out = held_out
        self._timeout = timeout
        self._progress = progress
        self._steps: list[FitStep] = []
        self._why: dict[str, str] = dict(pair.kept)
        self._ends = list(zip(pair.outputs, pair.student.ends, pair.teacher.ends, strict=True))
        for problem in pair.problems:
            self._hold(problem)
        ends = list(pair.teacher.ends)
        progress("running the original on the held-out samples")
        self._wanted = [
            {name: values[name] for name in ends}
            for values in Course(teacher, pair.teacher, held_out).values(ends, {})
        ]
        self._units = held_out.units
        self._start = self._now = self._judged(Course(student, pair.student, held_out), {})
        self._has_weights = any(not problem.affine for problem in pair.problems)
        self._fitted: set[str] = set()  # names of layers

    def fit_outputs(self) -> None:
        """Fit all parameters at once to the outputs, as often as that brings them nearer."""
        route = self._pair.route
        takes = self._takes(route) if route.names else 0
        for problem in self._pair.problems:
            if problem.affine and self._has_weights:  # weights have another turn
                self._why[problem.layer] = _hindrance(problem, route)
        if not route.names or takes > MOST:
            return
        cheap = 2 * takes <= MOST
        moved = [p for p in self._pair.problems if {q.name for q in p.parameters} & route.names]
        held_out = Course(self._teacher, self._pair.teacher, self._held_out)
        times = self._fit.samples * (1 + cheap) / self._held_out.samples
        targets = find_targets(self._pair, held_out.values(theirs(self._pair), {}), times)
        idle = 0
        batches = (1 + (cheap and self._fit.fixed)) * sum(1 for _ in self._fit)
        with at_work(self._pair, batches, self._timeout) as crew:
            for number in range(1, TIMES + 1):
                self._progress(f"fitting {len(moved)} layers to the outputs, {number}")
                # Others every time: what a fit owes to some of them by chance, the next takes back.
                samples = Mixed(self._fit, number, added=cheap)
                teacher = Course(self._teacher, self._pair.teacher, samples)
                wanted = teacher.values([target.theirs for target in targets], {})
                crew.begin(
                    {p.name: p.values for q in self._pair.problems for p in q.parameters},
                    [(target.ours, target.factor(number)) for target in targets],
                )
                crew.take(
                    (feeds, [values[target.theirs] for target in targets])
                    for feeds, values in zip(samples, wanted, strict=True)
                )
                idle = 0 if self._take_joint(moved, crew) else idle + 1
                if idle == IDLE:
                    return

    def _takes(self, route: Route) -> int:
        """Return how many multiplications a pass over the data takes."""
        feeds, times = self._fit.smallest()
        parameters = {p.name: p.values for q in self._pair.problems for p in q.parameters}
        values = self._student.run(feeds, [*route.taps])
        return times * route.multiplications({**feeds, **values, **parameters, **route.constants})

    def _take_joint(self, moved: list[Problem], crew: Crew) -> bool:
        """Try what all parameters could be moved by, and take the best if it is better."""
        course = Course(self._student, self._pair.student, self._held_out)
        best, rounds = _Best(self._now), 0
        parameters = [p for problem in moved for p in problem.parameters]
        for number, vector in solutions(crew.push, crew.pull, ROUNDS):
            changes = crew.split(vector)
            known = [p for p in parameters if p.name in changes]
            for share in SHARES:
                values = {p.name: p.moved(share * changes[p.name]) for p in known}
                candidate = _Best(self._judged(course, values), values, 0.0, share)
                if candidate.gain(self._now) > best.gain(self._now):
                    best, rounds = candidate, number
            if 0 < rounds < number:
                break
        what = f"{len(moved)} layers together" if len(moved) > 1 else moved[0].layer
        kind = "weights" if self._has_weights else "affines"
        return self._take(moved, best, what, kind, rounds=rounds)

    def sweep(self) -> None:
        """Go through all layers, each fitted to what it gives in the original.

        Beside weights, an affine of its own brings nothing where all were fitted at once. In bodies
        they were not, and there have a turn behind the weights.
        """
        problems = self._pair.problems
        if not self._has_weights:
            self._sweep(problems)
            return
        self._sweep([problem for problem in problems if not problem.affine])
        hidden = [problem for problem in problems if problem.affine and problem.is_hidden]
        if hidden:
            self._sweep(hidden)

    def _sweep(self, chosen: Sequence[Problem]) -> None:
        """Go through some layers."""
        wanted = set(map(id, chosen))
        sides = self._pair.student, self._pair.teacher
        student = Course(self._student, sides[0], self._fit)
        teacher = Course(self._teacher, sides[1], self._fit)
        judged = Course(self._student, sides[0], self._held_out)
        wanted_there = Course(self._teacher, sides[1], self._held_out)
        for level, numbers in enumerate(self._pair.levels, start=1):
            here = (self._pair.problems[n] for n in numbers)
            problems = [problem for problem in here if id(problem) in wanted]
            if not problems:
                continue
            where = f"level {level} of {len(self._pair.levels)}"
            self._progress(f"fitting {problems[0].layer}, {where}")
            equations = self._accumulate(level, problems, student, teacher)
            others = self._accumulate(level, problems, judged, wanted_there)
            for problem, sums, tested in zip(problems, equations, others, strict=True):
                if sums is not None and tested is not None:
                    self._solve(problem, sums, tested, judged)

    def refitted(self) -> Refitted:
        """Return what was fitted."""
        unfitted = tuple(
            Unfitted(layer, why) for layer, why in self._why.items() if layer not in self._fitted
        )
        fit = Fit(
            self._fit.samples,
            self._held_out.samples,
            self._start.drifts(),
            self._now.drifts(),
            tuple(self._steps),
            unfitted,
        )
        moved = [p for p in self._pair.problems if p.layer in self._fitted]
        constants = [
            (parameter.constant, parameter.values)
            for problem in moved
            for parameter in problem.parameters
            if parameter.constant is not None
        ]
        affines: dict[tuple[str, str], FittedAffine] = {}
        for problem in moved:
            if problem.affine and problem.bias is not None:
                scale, bias = (
                    p.values.astype(np.float64) if p.constant is None else None
                    for p in problem.parameters
                )
                affines |= dict.fromkeys(problem.affine, FittedAffine(scale, bias))
        return Refitted(fit, constants, affines, self._now.snr)

    def _hold(self, problem: Problem) -> None:
        self._student.hold({p.name: p.values for p in problem.parameters})

    def _accumulate(
        self, level: int, problems: list[Problem], student: Course, teacher: Course
    ) -> list[NormalEquations | None]:
        """Go through samples, and return the sums of every problem of a level."""
        found: dict[int, NormalEquations] = {}
        lost: set[int] = set()
        uses = [use for problem in problems for use in problem.uses]
        ours = student.advance(level, [name for use in uses for name in (use.x, use.y)])
        theirs = teacher.advance(level, [use.wanted for use in uses])
        for here, there in zip(ours, theirs, strict=True):
            for number, problem in enumerate(problems):
                if number in lost:
                    continue
                if number not in found:
                    if not any(True for _ in _times(problem, here)):
                        continue  # no turn of a body has come to it yet
                    if not self._reproduced(problem, here):
                        lost.add(number)
                        self._why[problem.layer] = (
                            "onnxruntime computes it in another way than ONNX defines it"
                            if self._is_finite(problem, here)
                            else _NOT_FINITE
                        )
                        continue
                    groups, size, results = (
                        problem.uses[0].product.matrix(problem.weight.values).shape
                    )
                    found[number] = NormalEquations(
                        groups, size, results, bias=problem.bias is not None
                    )
                self._add(found[number], problem, here, there)
        for number in set(range(len(problems))) - found.keys() - lost:
            self._why[problems[number].layer] = "it does not run on this data"
        return [found.get(number) for number in range(len(problems))]

    def _add(self, sums: NormalEquations, problem: Problem, here: Tensors, there: Tensors) -> None:
        for product, x, y, wanted in _times(problem, here, there):
            residual = wanted.astype(np.float64) - y
            sums.wanted += float(np.square(wanted, dtype=np.float64).sum())
            for columns, part in product.chunks(x, residual):
                sums.add(columns, part, gain=product.gain)

    @staticmethod
    def _is_finite(problem: Problem, here: Tensors) -> bool:
        """Whether what a layer reads and gives are numbers."""
        times = _times(problem, here)
        return all(bool(np.isfinite(values).all()) for _, *both in times for values in both)

    @staticmethod
    def _reproduced(problem: Problem, here: Tensors) -> bool:
        """Whether the result of a layer is the product of its columns, up to a bias."""
        for product, x, y in _times(problem, here):
            matrix = product.matrix(problem.weight.values).swapaxes(1, 2)
            one = slice(1 if x.ndim > 2 else None)
            for columns, results in product.chunks(x[one], y[one]):
                if columns.shape[::2] != results.shape[::2]:
                    return False
                rest = results - matrix @ columns
                rest -= rest.mean(axis=2, keepdims=True)
                size = np.abs(results).max(initial=0.0)
                if not np.abs(rest).max(initial=0.0) <= REPRODUCED * size:
                    return False
        return True

    def _solve(
        self, problem: Problem, sums: NormalEquations, tested: NormalEquations, judged: Course
    ) -> None:
        """Try fits of a layer, and take the best if it is better than what there is."""
        if not sums.is_finite:
            self._why[problem.layer] = _NOT_FINITE
            return
        if sums.energy <= SAME * sums.wanted:
            self._why[problem.layer] = "its output is already that of the original"
            return
        best = _Best(self._now)
        for candidate in self._candidates(problem, sums, tested, judged):
            if candidate.gain(self._now) > best.gain(self._now):
                best = candidate
        kind = "affine" if problem.affine else "weight"
        if not self._take([problem], best, problem.layer, kind):
            self._why[problem.layer] = "no fit of it reduced the error on held-out samples"

    def _take(
        self, problems: list[Problem], best: _Best, what: str, kind: str, *, rounds: int = 0
    ) -> bool:
        """Let parameters be those of a candidate, if it is better by more than chance."""
        if best.gain(self._now) <= 0 or not best.verdict.error < (1 - LEAST) * self._now.error:
            return False
        for problem in problems:
            for parameter in problem.parameters:
                parameter.values = best.values.get(parameter.name, parameter.values)
            self._hold(problem)
            self._fitted.add(problem.layer)
        now = best.verdict
        step = FitStep(
            what, kind, best.lam, best.share, self._now.snr, now.snr, now.agreement, rounds
        )
        self._steps.append(step)
        self._now = now
        return True

    def _candidates(
        self, problem: Problem, sums: NormalEquations, tested: NormalEquations, judged: Course
    ) -> Iterator[_Best]:
        """Yield some or all of the way to a fit."""
        least = math.inf
        for hold in LAMS:
            solution = sums.solve(hold)
            left = tested.left(*solution)
            if not left < least:
                break
            least, lam, change = left, hold, _changes(problem, *solution)
        if least == math.inf:
            return
        first = len(SHARES) // 2
        half = self._candidate(problem, change, lam, SHARES[first], judged)
        yield half
        helps = half.gain(self._now) > 0
        for share in SHARES[:first] if helps else SHARES[first + 1 :]:
            yield self._candidate(problem, change, lam, share, judged)

    def _candidate(
        self,
        problem: Problem,
        changes: Mapping[str, npt.NDArray[np.float64]],
        lam: float,
        share: float,
        judged: Course,
    ) -> _Best:
        values = {p.name: p.moved(share * changes[p.name]) for p in problem.parameters}
        return _Best(self._judged(judged, values), values, lam, share)

    def _judged(self, course: Course, parameters: Mapping[str, npt.NDArray[Any]]) -> Verdict:
        names = [ours for _, ours, _ in self._ends]
        return judge(course.values(names, parameters), self._wanted, self._ends, self._units)

"""Layer by layer: solve, try what came out on held-out samples, and keep what brings them nearer.

Of every layer the rows are what comes to it in the student, the targets what the layer gives in the
teacher. Layers that don't depend on each other are on one level, and see the same pass.

How much of a hold there is on the present weight is chosen by what a layer gives for the held-out
samples. A fit is taken whole, by half or by a quarter, whichever brings the outputs of these
nearest, and only if they come nearer at all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.groupnorm.refit.equations import NormalEquations
from normswap.groupnorm.refit.occurrences import occurrences
from normswap.groupnorm.refit.trial import SHARES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from normswap.groupnorm.refit.course import Course, Tensors
    from normswap.groupnorm.refit.networks import Problem
    from normswap.groupnorm.refit.trial import Candidate, Trial

LAMS = (1e-1, 1e-2, 1e-3)
"""Holds on the present weight, which are loosened for as long as that helps."""

SAME = 1e-9
"""Energy of what a layer is off by, beside that of its results, that is but rounding."""

REPRODUCED = 1e-2
"""How far a layer's result may be from the product of its patches, beside its size."""

_NOT_FINITE = "it has NaN or infinite values on this data"


def sweep(trial: Trial) -> None:
    """Go through all layers, each fitted to what it gives in the original.

    Beside weights, an affine of its own brings nothing where all were fitted at once. In bodies
    they were not, and there have a turn behind the weights.
    """
    problems = trial.pair.problems
    if not trial.has_weights:
        _sweep(trial, problems)
        return
    _sweep(trial, [problem for problem in problems if not problem.affine])
    hidden = [problem for problem in problems if problem.affine and problem.is_hidden]
    if hidden:
        _sweep(trial, hidden)


def _sweep(trial: Trial, chosen: Sequence[Problem]) -> None:
    """Go through some layers."""
    wanted = set(map(id, chosen))
    levels = trial.pair.levels
    student, teacher = trial.student(trial.fit), trial.teacher(trial.fit)
    judged, wanted_there = trial.student(trial.held_out), trial.teacher(trial.held_out)
    for level, numbers in enumerate(levels, start=1):
        here = (trial.pair.problems[n] for n in numbers)
        problems = [problem for problem in here if id(problem) in wanted]
        if not problems:
            continue
        trial.progress(f"fitting {problems[0].layer}, level {level} of {len(levels)}")
        equations = _accumulate(trial, level, problems, student, teacher)
        others = _accumulate(trial, level, problems, judged, wanted_there)
        for problem, sums, tested in zip(problems, equations, others, strict=True):
            if sums is not None and tested is not None:
                _solve(trial, problem, sums, tested, judged)


def _accumulate(
    trial: Trial, level: int, problems: list[Problem], student: Course, teacher: Course
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
                if not _is_reproduced(problem, here):
                    lost.add(number)
                    trial.why[problem.layer] = (
                        "onnxruntime computes it in another way than ONNX defines it"
                        if _is_finite(problem, here)
                        else _NOT_FINITE
                    )
                    continue
                groups, size, results = problem.uses[0].product.matrix(problem.weight.values).shape
                found[number] = NormalEquations(
                    groups, size, results, bias=problem.bias is not None
                )
            _add(found[number], problem, here, there)
    for number in set(range(len(problems))) - found.keys() - lost:
        trial.why[problems[number].layer] = "it does not run on this data"
    return [found.get(number) for number in range(len(problems))]


def _add(sums: NormalEquations, problem: Problem, here: Tensors, there: Tensors) -> None:
    for product, x, y, wanted in _times(problem, here, there):
        residual = wanted.astype(np.float64) - y
        sums.wanted += float(np.square(wanted, dtype=np.float64).sum())
        for columns, part in product.chunks(x, residual):
            sums.add(columns, part, gain=product.gain)


def _is_finite(problem: Problem, here: Tensors) -> bool:
    """Whether what a layer reads and gives are numbers."""
    times = _times(problem, here)
    return all(bool(np.isfinite(values).all()) for _, *both in times for values in both)


def _is_reproduced(problem: Problem, here: Tensors) -> bool:
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


def _solve(
    trial: Trial, problem: Problem, sums: NormalEquations, tested: NormalEquations, judged: Course
) -> None:
    """Try fits of a layer, and take the best if it is better than what there is."""
    if not sums.is_finite:
        trial.why[problem.layer] = _NOT_FINITE
        return
    if sums.energy <= SAME * sums.wanted:
        trial.why[problem.layer] = "its output is already that of the original"
        return
    best = trial.present()
    for candidate in _candidates(trial, problem, sums, tested, judged):
        if trial.gain(candidate) > trial.gain(best):
            best = candidate
    kind = "affine" if problem.affine else "weight"
    if not trial.take([problem], best, problem.layer, kind):
        trial.why[problem.layer] = "no fit of it reduced the error on held-out samples"


def _candidates(
    trial: Trial, problem: Problem, sums: NormalEquations, tested: NormalEquations, judged: Course
) -> Iterator[Candidate]:
    """Yield some or all of the way to a fit: half of it, and then all of it or less."""
    least = math.inf
    for hold in LAMS:
        solution = sums.solve(hold)
        left = tested.left(*solution)
        if not left < least:
            break
        least, lam, changes = left, hold, _changes(problem, *solution)
    if least == math.inf:
        return

    def some(share: float) -> Candidate:
        return trial.candidate(problem.parameters, changes, share, judged, lam)

    first = len(SHARES) // 2
    half = some(SHARES[first])
    yield half
    helps = trial.gain(half) > 0
    yield from map(some, SHARES[:first] if helps else SHARES[first + 1 :])


def _changes(
    problem: Problem, delta: npt.NDArray[np.float64], shift: npt.NDArray[np.float64] | None
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the solution of a layer's own equations as what is added to each parameter."""
    changes = {problem.weight.name: problem.uses[0].product.weight(delta)}
    if problem.bias is not None and shift is not None:
        changes[problem.bias.name] = shift.reshape(-1)
    return changes

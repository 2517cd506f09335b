"""Fit all at once to the outputs, several times over: each is linearized where the last has led.

That is done where it takes no more time than a person waits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from normswap.groupnorm.refit.crew import at_work, most_processes, room_each
from normswap.groupnorm.refit.joint import solutions
from normswap.groupnorm.refit.mixing import Mixed
from normswap.groupnorm.refit.targets import find_targets, theirs
from normswap.groupnorm.refit.trial import SHARES
from normswap.groupnorm.refit.unrolling import MOST as MOST_TURNS

if TYPE_CHECKING:
    from normswap.groupnorm.refit.crew import Crew
    from normswap.groupnorm.refit.networks import Problem
    from normswap.groupnorm.refit.tangent import Route
    from normswap.groupnorm.refit.trial import Trial

TIMES = 12
"""How often all is fitted to the outputs at once, at the most."""

IDLE = 2
"""How often in a row that may bring nothing, before it is ended."""

ROUNDS = (3, 6, 9, 13, 18)
"""Of conjugate gradients, after which what they have found is tried; they end where that is worse
than what was tried before."""

MOST = 4 * 10**9
"""Multiplications of a pass for which that is done: some minutes each time. Of data that takes
more, a pass has a part, and the next one another part."""

FEWEST = 64
"""Samples that a part may have: a fit to fewer is of these alone."""

HELD = 3
"""How often the tensors of a batch are there at once while it is linearized, about: the runtime's,
copies in another order, and what is made of them."""


def fit_outputs(trial: Trial) -> None:
    """Fit all parameters at once to the outputs, as often as that brings them nearer."""
    pair, route = trial.pair, trial.pair.route
    takes, size = _costs(trial, route) if route.names else (0, 0)
    for problem in pair.problems:
        if problem.affine and trial.has_weights:  # weights have another turn
            trial.why[problem.layer] = _hindrance(problem, route)
    share = min(1.0, MOST / takes) if takes else 1.0
    if not route.names or (share < 1 and (trial.fit.fixed or share * trial.fit.samples < FEWEST)):
        return
    cheap = 2 * takes <= MOST
    # Samples that are linearized together.
    most = room_each(most_processes()) // (HELD * size or 1)
    if not most:
        return
    moved = [p for p in pair.problems if {q.name for q in p.parameters} & route.names]
    times = share * trial.fit.samples * (1 + cheap) / trial.held_out.samples
    targets = find_targets(pair, trial.teacher(trial.held_out).values(theirs(pair), {}), times)
    idle = 0
    batches = Mixed(trial.fit, added=cheap, most=most, share=share)
    with at_work(pair, batches, trial.timeout) as crew:
        for number in range(1, TIMES + 1):
            trial.progress(f"fitting {len(moved)} layers to the outputs, {number}")
            # Others every time: what a fit owes to some of them by chance, the next takes back.
            samples = replace(batches, draw=number)
            wanted = trial.teacher(samples).values([target.theirs for target in targets], {})
            crew.begin(
                {p.name: p.values for q in pair.problems for p in q.parameters},
                [(target.ours, target.factor(number)) for target in targets],
            )
            crew.take(
                (feeds, [values[target.theirs] for target in targets])
                for feeds, values in zip(samples, wanted, strict=True)
            )
            idle = 0 if _is_taken(trial, moved, crew) else idle + 1
            if idle == IDLE:
                return


def _costs(trial: Trial, route: Route) -> tuple[int, int]:
    """Return how many multiplications a pass over the data takes, and the bytes of one sample."""
    feeds, times = trial.fit.smallest()
    parameters = {p.name: p.values for q in trial.pair.problems for p in q.parameters}
    values = trial.run(feeds, [*route.taps])
    takes = times * route.multiplications({**feeds, **values, **parameters, **route.constants})
    return takes, route.nbytes(values)


def _is_taken(trial: Trial, moved: list[Problem], crew: Crew) -> bool:
    """Try what all parameters could be moved by, and take the best if it is better."""
    course = trial.student(trial.held_out)
    best, rounds = trial.present(), 0
    parameters = [p for problem in moved for p in problem.parameters]
    for number, vector in solutions(crew.push, crew.pull, ROUNDS):
        changes = crew.split(vector)
        known = [p for p in parameters if p.name in changes]
        for share in SHARES:
            candidate = trial.candidate(known, changes, share, course)
            if trial.gain(candidate) > trial.gain(best):
                best, rounds = candidate, number
        if 0 < rounds < number:
            break
    what = f"{len(moved)} layers together" if len(moved) > 1 else moved[0].layer
    kind = "weights" if trial.has_weights else "affines"
    return trial.take(moved, best, what, kind, rounds=rounds)


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
    return "a joint fit of all layers takes too much time or memory, or did not reduce the error"

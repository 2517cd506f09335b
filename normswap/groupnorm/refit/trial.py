"""A student on its way: what is tried on held-out samples, and taken where these come nearer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.groupnorm.options import FittedAffine
from normswap.groupnorm.refit.course import Course
from normswap.groupnorm.refit.judge import judge
from normswap.groupnorm.refit.outcome import Fit, FitStep, Refitted, Unfitted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from normswap.groupnorm.refit.holdout import Part
    from normswap.groupnorm.refit.judge import Nearness
    from normswap.groupnorm.refit.networks import FittedParameter, Pair, Problem
    from normswap.progress import Progress
    from normswap.runtime.session import Session

SHARES = (1.0, 0.5, 0.25)
"""What is tried of the way to a fit."""

LEAST = 2e-3
"""By what share the error of the held-out samples has to fall; less is chance."""


@dataclass(slots=True)
class Candidate:
    """Values that parameters could have.

    Attributes
    ----------
    nearness : Nearness
        On the held-out samples.
    values : dict of str to ndarray
        By name of the parameter.
    lam, share : float
        See :class:`~.outcome.FitStep`.
    """

    nearness: Nearness
    values: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    lam: float = 0.0
    share: float = 0.0


class Trial:
    """Both networks, the student with all that was taken so far.

    Parameters
    ----------
    pair : Pair
    teacher, student : Session
    fit, held_out : Part
        Samples to fit to, and others to judge every step by.
    timeout : float
        Seconds for one run.
    progress : callable

    Attributes
    ----------
    now : Nearness
        How near the student is.
    why : dict of str to str
        Of layers that were not fitted: the reason. One that was fitted may still be in it.
    """

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
        self.pair = pair
        self.fit = fit
        self.held_out = held_out
        self.timeout = timeout
        self.progress = progress
        self.why: dict[str, str] = dict(pair.kept)
        self._teacher = teacher
        self._student = student
        self._steps: list[FitStep] = []
        self._fitted: set[str] = set()  # names of layers
        self._ends = list(zip(pair.outputs, pair.student.ends, pair.teacher.ends, strict=True))
        for problem in pair.problems:
            self._hold(problem)
        ends = list(pair.teacher.ends)
        progress("running the original on the held-out samples")
        self._wanted = [
            {name: values[name] for name in ends}
            for values in self.teacher(held_out).values(ends, {})
        ]
        self._start = self.now = self._judged(self.student(held_out), {})

    @property
    def has_weights(self) -> bool:
        """Whether weights are fitted, and not affines alone."""
        return any(not problem.affine for problem in self.pair.problems)

    def teacher(self, data: Iterable[Mapping[str, Any]]) -> Course:
        """Return the course of some samples through the teacher."""
        return Course(self._teacher, self.pair.teacher, data)

    def student(self, data: Iterable[Mapping[str, Any]]) -> Course:
        """Return the course of some samples through the student."""
        return Course(self._student, self.pair.student, data)

    def run(self, feeds: Mapping[str, Any], names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Return tensors of the student."""
        return self._student.run(feeds, names)

    def present(self) -> Candidate:
        """Return what there is, which another candidate has to be better than."""
        return Candidate(self.now)

    def candidate(
        self,
        parameters: Iterable[FittedParameter],
        changes: Mapping[str, npt.NDArray[np.float64]],
        share: float,
        course: Course,
        lam: float = 0.0,
    ) -> Candidate:
        """Try some of the way to a fit.

        Parameters
        ----------
        parameters : iterable of FittedParameter
        changes : Mapping of str to ndarray
            By name of the parameter: all of the way.
        share : float
        course : Course
            The student's, with the held-out samples.
        lam : float
        """
        values = {p.name: p.moved(share * changes[p.name]) for p in parameters}
        return Candidate(self._judged(course, values), values, lam, share)

    def gain(self, candidate: Candidate) -> float:
        """Return by how much it is better than what there is, less what may be chance."""
        return candidate.nearness.gain(self.now)

    def take(
        self, problems: list[Problem], best: Candidate, what: str, kind: str, *, rounds: int = 0
    ) -> bool:
        """Let parameters be those of a candidate, if it is better by more than chance."""
        if self.gain(best) <= 0 or not best.nearness.error < (1 - LEAST) * self.now.error:
            return False
        for problem in problems:
            for parameter in problem.parameters:
                parameter.values = best.values.get(parameter.name, parameter.values)
            self._hold(problem)
            self._fitted.add(problem.layer)
        now = best.nearness
        step = FitStep(
            what, kind, best.lam, best.share, self.now.snr, now.snr, now.agreement, rounds
        )
        self._steps.append(step)
        self.now = now
        return True

    def refitted(self) -> Refitted:
        """Return what was fitted."""
        unfitted = tuple(
            Unfitted(layer, why) for layer, why in self.why.items() if layer not in self._fitted
        )
        fit = Fit(
            self.fit.samples,
            self.held_out.samples,
            self._start.drifts(),
            self.now.drifts(),
            tuple(self._steps),
            unfitted,
        )
        moved = [p for p in self.pair.problems if p.layer in self._fitted]
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
        return Refitted(fit, constants, affines, self.now.snr)

    def _hold(self, problem: Problem) -> None:
        self._student.hold({p.name: p.values for p in problem.parameters})

    def _judged(self, course: Course, parameters: Mapping[str, npt.NDArray[Any]]) -> Nearness:
        names = [ours for _, ours, _ in self._ends]
        return judge(
            course.values(names, parameters), self._wanted, self._ends, self.held_out.units
        )

"""What two models do on the same inputs: in the runtime, and in float64 where that can be had."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from normswap.check.bench import LEVELS, Bench, Execution, Results
from normswap.check.cases import make_cases
from normswap.check.cost import smaller
from normswap.check.dims import Wishes, spatial_sizes
from normswap.check.inputs import Case, Distribution, make_case
from normswap.check.report import leaves
from normswap.check.runner import UnsupportedByRuntimeError
from normswap.errors import RunError, RunTimeoutError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normswap.check.options import CheckOptions
    from normswap.check.report import RunReport
    from normswap.check.signature import Signature

Tensors = dict[str, np.ndarray]

# Multiply-adds of one evaluation by the arbiter that are worth their time, at depth QUICK and at
# FULL; a ResNet-50 at 224 x 224 has 4e9 of them and takes about a second.
_BUDGET = {False: 5_000_000_000, True: 30_000_000_000}
_SAMPLES = {False: 2, True: 4}
_PATIENCE = 120.0  # seconds that the arbiter may take at depth QUICK
_PRECISE = 1e-9
_IMPRECISE = 1e-6  # what the arbiter resolves where it has an operator in float32 only


@dataclass(frozen=True, slots=True)
class Truths:
    """One case in float64.

    Attributes
    ----------
    original, rewritten : dict of str to numpy.ndarray
        By tensor.
    perturbed : tuple of dict
        The original with its weights perturbed.
    resolution : float
        As in `normswap.check.evidence.Function`.
    """

    original: Tensors
    perturbed: tuple[Tensors, ...]
    rewritten: Tensors
    resolution: float


@dataclass(slots=True)
class Observations:
    """What has been seen so far; filled in as a check goes on.

    Attributes
    ----------
    cases : list of Case
        Those that the runtime ran; after them, if need be, one for the arbiter alone.
    original, rewritten : Results or None
        From the runtime; None where it has no kernels for the model.
    truths : dict of int to Truths
        From the arbiter, by index of the case.
    runs : list of RunReport
    notes : list of str
    """

    cases: list[Case] = field(default_factory=list)
    original: Results | None = None
    rewritten: Results | None = None
    truths: dict[int, Truths] = field(default_factory=dict)
    runs: list[RunReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def arbiter_case(self) -> Case | None:
        """The first case that the arbiter evaluated."""
        return next((self.cases[index] for index in self.truths), None)


def tensors_of(values: Mapping[str, object]) -> Tensors:
    """Return all tensors among some outputs, by name."""
    return {leaf: array for name, value in values.items() for leaf, array in leaves(name, value)}


def observe(
    bench: Bench, original: Signature, rewritten: Signature, options: CheckOptions
) -> Observations:
    """Run both models, in the runtime and in float64.

    Where the sizes of inputs are open, sizes are tried until the original takes them. Where the
    runtime has no kernels for the original, the arbiter alone judges.

    Raises
    ------
    RunError, RunTimeoutError, ModelError
        As `normswap.check.runner.run_worker`.
    """
    seen = Observations()
    if original.random:
        names = ", ".join(original.random[:5])
        seen.notes.append(f"the operators that draw random numbers got fixed seeds: {names}")
    refusal: RunError | None = None
    wishes = Wishes(options.input_shapes, options.symbolic_dims)
    for spatial in [0] if options.data is not None else spatial_sizes(original, wishes):
        seen.cases = make_cases(original, options, spatial=spatial)
        feeds = bench.pack(seen.cases)
        try:
            seen.original = bench.execute(original, "original", _executions(options), feeds)
        except UnsupportedByRuntimeError as error:
            _arbitrate(bench, original, rewritten, options, seen)
            if not seen.truths:
                raise
            seen.notes.append(f"judged in float64 alone: {error}")
            return seen
        except RunTimeoutError:
            raise
        except RunError as error:
            # A shape that the model cannot take ends here. So does every other failure, but
            # that one comes back for each size, and then it is told.
            refusal = refusal or error
            continue
        levels = [Execution(level) for level in LEVELS]
        provider = options.against_provider
        seen.rewritten = bench.execute(rewritten, "rewritten", levels, feeds, provider=provider)
        seen.runs += [seen.original.report, seen.rewritten.report]
        seen.notes += fallback_notes(seen.runs)
        _arbitrate(bench, original, rewritten, options, seen)
        return seen
    raise refusal or RunError("There was no input to try.")


def _executions(options: CheckOptions) -> list[Execution]:
    """Return the legal executions of the original that its noise floor is taken from."""
    executions = [Execution(level) for level in LEVELS]
    if options.full:
        executions += [Execution("disabled", 1), Execution("basic"), Execution("extended", 1)]
    return executions


def fallback_notes(runs: Sequence[RunReport]) -> list[str]:
    """Return a sentence for every run in which the CPU stood in for the provider asked for."""
    return [
        f"{len(run.fallback)} nodes of the {run.model} model ran on the CPU instead of "
        f"{run.provider}: {', '.join(run.fallback[:3])}"
        for run in runs
        if run.fallback and run.engine == "onnxruntime"
    ]


def patience(options: CheckOptions) -> float:
    """Return the seconds that one child of the arbiter may take."""
    return options.timeout if options.full else min(options.timeout, _PATIENCE)


def _arbitrate(
    bench: Bench,
    original: Signature,
    rewritten: Signature,
    options: CheckOptions,
    seen: Observations,
) -> None:
    """Evaluate both models in float64, on inputs that it can be done on in reasonable time."""
    if not options.arbiter:
        return
    chosen = _for_arbiter(seen.cases, options)
    failures = []
    for attempt in [*_reduced(original, options, seen.cases[chosen[0]]), None]:
        cases = [seen.cases[i] for i in chosen] if attempt is None else [attempt]
        feeds = bench.pack(cases)
        limit = patience(options)
        samples = _SAMPLES[options.full]
        try:
            first = bench.evaluate(original, "original", feeds, samples=samples, timeout=limit)
            second = bench.evaluate(rewritten, "rewritten", feeds, timeout=limit)
        except RunError as error:
            failures.append(str(error))
            continue
        indices = chosen
        if attempt is not None:
            indices = [len(seen.cases)]
            seen.cases.append(attempt)
        seen.runs += [first.report, second.report]
        imprecise = {*(first.report.fallback or ()), *(second.report.fallback or ())}
        if imprecise:
            seen.notes.append(f"the arbiter has no float64 for {', '.join(sorted(imprecise))}")
        for position, index in enumerate(indices):
            plain, *perturbed = (tensors_of(row[position]) for row in first.values)
            other = tensors_of(second.values[0][position])
            resolution = _IMPRECISE if imprecise else _PRECISE
            seen.truths[index] = Truths(plain, tuple(perturbed), other, resolution)
        return
    seen.notes.append(f"no float64 arbiter, so the noise floor decides: {failures[-1]}")


def _for_arbiter(cases: Sequence[Case], options: CheckOptions) -> list[int]:
    """Return the indices of the cases to evaluate: the smallest at QUICK, all those at FULL."""
    sizes = [
        max((v.size for v in case.feeds.values() if isinstance(v, np.ndarray)), default=0)
        for case in cases
    ]
    least = [index for index, size in enumerate(sizes) if size == min(sizes)]
    return least if options.full else least[:1]


def _reduced(signature: Signature, options: CheckOptions, case: Case) -> list[Case]:
    """Return smaller inputs for a model that is too much work at the size of `case`, if it is."""
    if case.distribution is Distribution.USER:
        return []
    return [
        make_case(
            signature,
            shapes,
            Distribution.NORMAL,
            seed=options.seed,
            ranges=options.value_ranges,
        )
        for shapes in smaller(signature, case.shapes(), _BUDGET[options.full])
    ]

"""What two models do on the same inputs: in the runtime, and in float64 where that can be had."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.check.cases import LITTLE_WORK, make_cases
from normswap.check.cost import multiply_adds, smaller
from normswap.check.driving import (
    DOMAINS,
    DRIVES,
    Drive,
    attempts,
    bare_outputs,
    blind,
    drawn,
    note,
    plan,
)
from normswap.check.elements import tensors
from normswap.check.reorder import batch_size, reordered, restored
from normswap.check.runner import LEVELS, Execution, Results, Runner
from normswap.errors import RunError, RunTimeoutError
from normswap.inputs.dims import tip
from normswap.inputs.random import Case, Distribution, make_case
from normswap.runtime.failures import ProviderError, UnsupportedByRuntimeError
from normswap.runtime.providers import CPU, full_name
from normswap.runtime.randomness import seed_notes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from normswap.check.options import CheckOptions
    from normswap.check.report import RunReport
    from normswap.inputs.signature import Signature

Tensors = dict[str, np.ndarray]

# Multiply-adds of one evaluation by the arbiter that are worth their time, at depth QUICK and at
# FULL; a ResNet-50 at 224 x 224 has 4e9 of them and takes about a second.
_BUDGET = {False: 5_000_000_000, True: 30_000_000_000}
_SAMPLES = {False: 2, True: 4}
_PATIENCE = 120.0  # seconds that the arbiter may take at depth QUICK
PRECISE = 1e-9
NO_FLOAT64 = (
    "the models could not be compared in float64, so the verdict is based on the "
    "rounding noise of the original in the runtime"
)
_NAMED = 8  # nodes that did not run where they should, in a sentence
IMPRECISE = 1e-6  # what the arbiter resolves where it has an operator in float32 only


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
    rounded : tuple of (dict, dict)
        Either model, and the same with its weights and results perturbed; where that was needed
        (`normswap.check.departure`).
    """

    original: Tensors
    perturbed: tuple[Tensors, ...]
    rewritten: Tensors
    resolution: float
    rounded: tuple[tuple[Tensors, Tensors], ...] = ()


@dataclass(frozen=True, slots=True)
class Arbitration:
    """The original in float64: which cases, on which inputs, with what result.

    `drive` and `driving` are the inputs that were to reach what others don't, those among them
    that did not are still to be tried on a rewritten model.
    """

    model: Signature
    indices: tuple[int, ...]
    feeds: tuple[dict[str, Any], ...]
    results: Results
    drive: Drive
    driving: tuple[dict[str, Any], ...]


@dataclass(slots=True)
class Observations:
    """What two models do; filled in as a check goes on.

    Attributes
    ----------
    cases : list of Case
        Those that the runtime ran; after them, if need be, one for the arbiter alone.
    feeds : tuple of dict
        Descriptions of their inputs, for children.
    original, rewritten : Results or None
        From the runtime; None where it has no kernels for the model.
    reordered : dict of int to dict
        By index of the case: what the original gave for its samples in another order, put back
        in theirs.
    arbitration : Arbitration or None
        The original's part of `truths`.
    truths : dict of int to Truths
        From the arbiter, by index of the case.
    runs : list of RunReport
    notes : list of str
    path : Path or None
        Of the original.
    """

    cases: list[Case] = field(default_factory=list)
    feeds: tuple[dict[str, Any], ...] = ()
    original: Results | None = None
    rewritten: Results | None = None
    reordered: dict[int, Tensors] = field(default_factory=dict)
    arbitration: Arbitration | None = None
    truths: dict[int, Truths] = field(default_factory=dict)
    runs: list[RunReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    path: Path | None = None

    def add_notes(self, notes: Sequence[str]) -> None:
        """Add notes, each once."""
        self.notes += [note for note in notes if note not in self.notes]

    @property
    def arbiter_case(self) -> Case | None:
        """The first case that the arbiter evaluated."""
        return next((self.cases[index] for index in self.truths), None)


def tensors_of(values: Mapping[str, object]) -> Tensors:
    """Return all tensors among some outputs, by name."""
    return {leaf: array for name, value in values.items() for leaf, array in tensors(name, value)}


def observe_original(
    runner: Runner,
    model: Signature,
    options: CheckOptions,
    cases: Sequence[Case] | None = None,
) -> Observations:
    """Find inputs that the original takes, and run it on them, in the runtime and in float64.

    Where the sizes of inputs are open, sizes are tried until the original takes them. Where the
    runtime has no kernels for it, the arbiter alone observes. Inputs that are given are all that is
    tried, but for those that reach limits and branches.

    Raises
    ------
    RunError, RunTimeoutError, ModelError
        As `normswap.runtime.child.Child.call`.
    """
    seen = Observations(path=model.path)
    seen.notes += seed_notes(model.random)
    refusal: RunError | None = None
    first: Observations | None = None
    for spatial, integers in attempts(model, options) if cases is None else [(0, None)]:
        seen.cases = (
            make_cases(model, options, spatial=spatial, integers=integers)
            if cases is None
            else list(cases)
        )
        seen.feeds = tuple(case.feeds for case in seen.cases)
        try:
            executions = _executions(options, options.provider)
            seen.original = runner.execute(model, "original", executions, seen.feeds)
        except UnsupportedByRuntimeError as error:
            return _without_runtime(runner, model, options, seen, error)
        except (RunTimeoutError, ProviderError):
            raise
        except RunError as error:
            # A shape or an index that the model cannot take ends here. So does every other
            # failure, but that one comes back each time, and then it is told.
            refusal = refusal or error
            first = first or replace(seen, notes=list(seen.notes))
            continue
        seen.runs.append(seen.original.report)
        seen.add_notes(provider_notes(seen.original.report))
        _widen(runner, model, options, seen)
        if _repeats(options, options.provider):
            seen.notes += _determinism_notes(seen.original)
        if options.full:
            _reorder(runner, model, seen)
        _arbitrate(runner, model, options, seen)
        return seen
    if refusal is None or first is None:
        raise RunError(f"No inputs could be made to run {model.name} on.")
    if first.cases[0].distribution is not Distribution.USER:
        refusal.tip = refusal.tip or tip(model, first.cases[0].shapes())
    return _below_default(runner, model, options, first, refusal)


def _below_default(
    runner: Runner,
    model: Signature,
    options: CheckOptions,
    seen: Observations,
    refusal: RunError,
) -> Observations:
    """Observe an original that the runtime refuses at its default level, with the arbiter's help.

    Raises
    ------
    RunError
        The refusal, where the arbiter can't evaluate the model either.
    """
    found = _lower_level(runner, model, "original", seen.feeds, options.provider)
    if found is None:
        return _without_runtime(runner, model, options, seen, refusal)
    seen.original, level = found
    seen.runs.append(seen.original.report)
    _arbitrate(runner, model, options, seen)
    if seen.arbitration is None:
        raise refusal
    seen.notes.append(_refused(model, level, refusal))
    return seen


def _without_runtime(
    runner: Runner,
    model: Signature,
    options: CheckOptions,
    seen: Observations,
    refusal: RunError,
) -> Observations:
    """Observe an original with the arbiter alone; where that can't be, raise the refusal."""
    _arbitrate(runner, model, options, seen)
    if seen.arbitration is None:
        raise refusal
    seen.notes.append(f"compared in float64 only: {refusal}")
    return seen


def _lower_level(
    runner: Runner, model: Signature, role: str, feeds: Sequence[dict[str, Any]], provider: str
) -> tuple[Results, str] | None:
    """Run a model that the runtime refuses at its default level without its optimizer.

    Returns
    -------
    (Results, str) or None
        With the highest level at which it runs; None where there is none.
    """

    def run(level: str) -> Results | None:
        try:
            return runner.execute(model, role, [Execution(level)], feeds, provider=provider)
        except (RunTimeoutError, ProviderError):
            raise
        except RunError:
            return None

    plain = run(LEVELS[0])
    if plain is None:
        return None
    return plain, next((level for level in ("extended", "basic") if run(level)), LEVELS[0])


def _refused(model: Signature, level: str, refusal: RunError) -> str:
    return (
        f"onnxruntime can't run {model.name} at its default optimization level, but can "
        f"at level {level!r}; the model is compared in float64 and without optimizations: "
        f"{refusal}"
    )


def _widen(runner: Runner, model: Signature, options: CheckOptions, seen: Observations) -> None:
    """Add inputs on which the original gives something, where it gives nothing on the usual ones.

    An output may be NaN throughout, empty, or the same whatever the input.
    """
    if seen.original is None or options.data is not None or not model.inputs:
        return
    found = [tensors_of(values) for values in seen.original.values[0]]
    bare = bare_outputs(model, found)
    if not bare:
        return
    others = drawn(model, options, seen.cases[0].shapes(), (*DOMAINS, *DRIVES))
    feeds = [case.feeds for case in others]
    try:
        tried = runner.execute(model, "original", [Execution(LEVELS[0])], feeds)
    except RunError:
        return  # what gave nothing is told as that
    chosen = []
    for index, given in enumerate(tried.values[0]):
        candidate = [*found, tensors_of(given)]
        still = bare_outputs(model, candidate)
        if len(still) < len(bare):
            chosen.append(index)
            found, bare = candidate, still
    if not chosen:
        return
    picked = [feeds[index] for index in chosen]
    more = runner.execute(model, "original", _executions(options, options.provider), picked)
    values = tuple(a + b for a, b in zip(seen.original.values, more.values, strict=True))
    seen.original = replace(seen.original, values=values)
    seen.runs.append(more.report)
    seen.cases += [others[index] for index in chosen]
    seen.feeds = (*seen.feeds, *picked)


def observe_rewritten(
    runner: Runner, model: Signature, options: CheckOptions, before: Observations
) -> Observations:
    """Return the observations of an original, with those of a rewritten model added.

    `before` is left as it is, so that several rewrites can be compared with one original.

    Raises
    ------
    RunError, RunTimeoutError, ModelError
        As `normswap.runtime.child.Child.call`.
    """
    seen = replace(
        before,
        cases=list(before.cases),
        truths={},
        runs=list(before.runs),
        notes=list(before.notes),
    )
    if before.original is not None:
        provider = options.against_provider
        # Two providers are two sources of noise. That of the other provider shows in how far its
        # own executions of the original are apart, so where the rewritten model is the same file
        # as the original, it is executed in all of these ways there too.
        both = provider is not None and _same_file(model.path, before.path)
        executions = _executions(options, provider or "") if both else _levels()
        try:
            seen.rewritten = runner.execute(
                model, "rewritten", executions, seen.feeds, provider=provider
            )
        except (RunTimeoutError, ProviderError):
            raise
        except RunError as error:
            if before.arbitration is None:
                raise
            known = provider or options.provider
            found = _lower_level(runner, model, "rewritten", seen.feeds, known)
            if found is None:
                raise
            seen.rewritten, level = found
            seen.notes.append(_refused(model, level, error))
        seen.runs.append(seen.rewritten.report)
        seen.add_notes(provider_notes(seen.rewritten.report))
    part = before.arbitration
    if part is None:
        seen.notes += blind(model) if options.arbiter else []
        return seen
    left = [i for i in range(len(part.driving)) if i not in part.results.kept]
    hopeless = [item.what for item in part.results.unseen]
    try:
        other = runner.evaluate(
            model,
            "rewritten",
            part.feeds,
            drive=_request([part.driving[i] for i in left], part.drive, hopeless),
            timeout=patience(options),
        )
    except RunError as error:
        if before.original is None:
            raise
        seen.notes.append(f"{NO_FLOAT64}: {error}")
        seen.notes += blind(model)
        return seen
    seen.runs.append(other.report)
    part = _driven_further(runner, options, seen, part, [left[i] for i in other.kept])
    seen.notes += note([*part.results.unseen, *other.unseen])
    imprecise = {*part.results.report.imprecise, *other.report.imprecise}
    if imprecise:
        seen.notes.append(
            f"evaluated in float32 instead of float64: {', '.join(sorted(imprecise))}"
        )
    for position, index in enumerate(part.indices):
        plain, *perturbed = (tensors_of(row[position]) for row in part.results.values)
        rewritten = tensors_of(other.values[0][position])
        resolution = IMPRECISE if imprecise else PRECISE
        seen.truths[index] = Truths(plain, tuple(perturbed), rewritten, resolution)
    return seen


def _request(
    feeds: Sequence[Mapping[str, Any]], drive: Drive, hopeless: Sequence[str] = ()
) -> dict[str, Any]:
    return {"feeds": list(feeds), "channels": drive.channels, "hopeless": list(hopeless)}


def _driven_further(
    runner: Runner,
    options: CheckOptions,
    seen: Observations,
    part: Arbitration,
    kept: Sequence[int],
) -> Arbitration:
    """Return the original in float64 on what reached something new in the rewritten model, too."""
    if not kept:
        return part
    feeds = tuple(part.driving[index] for index in kept)
    more = runner.evaluate(
        part.model,
        "original",
        feeds,
        samples=_SAMPLES[options.full],
        drive=_request([], part.drive),
        timeout=patience(options),
    )
    seen.runs.append(more.report)
    indices = (*part.indices, *range(len(seen.cases), len(seen.cases) + len(kept)))
    seen.cases += [part.drive.cases[index] for index in kept]
    values = tuple(a + b for a, b in zip(part.results.values, more.values, strict=True))
    still = {item.what for item in more.unseen}
    unseen = tuple(item for item in part.results.unseen if item.what in still)
    results = replace(part.results, values=values, unseen=unseen)
    return replace(part, indices=indices, feeds=(*part.feeds, *feeds), results=results)


def _same_file(one: Path, other: Path | None) -> bool:
    return other is not None and one.samefile(other)


def _levels() -> list[Execution]:
    return [Execution(level) for level in LEVELS]


def _executions(options: CheckOptions, provider: str) -> list[Execution]:
    """Return the legal executions of a model that its noise floor on a provider is taken from."""
    executions = _levels()
    if options.full:
        executions += [Execution("disabled", 1), Execution("basic"), Execution("extended", 1)]
    if _repeats(options, provider):
        executions += [Execution("disabled")]  # once more, to see whether anything is random
    return executions


def _repeats(options: CheckOptions, provider: str) -> bool:
    """Whether a run is repeated: devices may sum in another order every time, the CPU does not."""
    return options.full or full_name(provider) != CPU


def _reorder(runner: Runner, model: Signature, seen: Observations) -> None:
    """Run the original once more on all batches, with their samples in another order."""
    if model.random:
        return  # a fixed seed gives every place of a batch a number of its own
    sizes = {index: batch_size(case) for index, case in enumerate(seen.cases)}
    batches = {index: size for index, size in sizes.items() if size is not None}
    if not batches:
        return
    feeds = [reordered(seen.cases[index]).feeds for index in batches]
    try:
        results = runner.execute(model, "original", [Execution(LEVELS[0])], feeds)
    except (RunTimeoutError, ProviderError):
        raise
    except RunError as error:
        # Batches sorted by length, for example, have one order only.
        seen.notes.append(f"the original does not accept its samples in another order: {error}")
        return
    seen.runs.append(results.report)
    for (index, size), outputs in zip(batches.items(), results.values[0], strict=True):
        seen.reordered[index] = restored(tensors_of(outputs), size)


def _determinism_notes(original: Results) -> list[str]:
    """Return a sentence, if need be, on a model whose result changes from run to run."""
    first, again = original.values[0], original.values[-1]
    changing = {
        leaf: None
        for one, other in zip(first, again, strict=True)
        for leaf, array in tensors_of(one).items()
        if not _same_bits(array, tensors_of(other).get(leaf))
    }
    if not changing:
        return []
    return [f"the outputs of the original change from run to run: {', '.join(changing)}"]


def _same_bits(a: np.ndarray, b: np.ndarray | None) -> bool:
    if b is None or a.shape != b.shape:
        return False
    if a.dtype == object:
        return bool((a == b).all())
    return a.tobytes() == b.tobytes()


def provider_notes(run: RunReport) -> list[str]:
    """Return what a person should know of where and how a model was run; nothing of the CPU."""
    notes = list(run.remarks)
    if run.provider == CPU:
        return notes
    where = f" on device {run.device}" if run.device else ""
    notes.append(
        f"the {run.model} model ran in {run.provider}{where}, onnxruntime {run.version}"
        + (f": {run.arithmetic}" if run.arithmetic else "")
    )
    if run.fallback is None:
        notes.append(
            f"onnxruntime {run.version} does not report which nodes of the {run.model} "
            "model ran on the CPU instead; newer versions do"
        )
    elif run.fallback:
        nodes = ", ".join(run.fallback[:_NAMED])
        more = f" and {len(run.fallback) - _NAMED} more" if len(run.fallback) > _NAMED else ""
        notes.append(
            f"{len(run.fallback)} nodes of the {run.model} model did not run in {run.provider}: "
            f"{nodes}{more}"
        )
    return notes


def patience(options: CheckOptions) -> float:
    """Return the seconds that one child of the arbiter may take."""
    return options.timeout if options.full else min(options.timeout, _PATIENCE)


def _arbitrate(runner: Runner, model: Signature, options: CheckOptions, seen: Observations) -> None:
    """Evaluate the original in float64, on inputs that it can be done on in reasonable time."""
    if not options.arbiter:
        return
    chosen = _for_arbiter(model, options, seen)
    failures = []
    drive = plan(model, options, seen.cases[chosen[min(1, len(chosen) - 1)]])
    driving = tuple(case.feeds for case in drive.cases)
    for attempt in [*_reduced(model, options, seen.cases[chosen[0]]), None]:
        feeds = [seen.feeds[i] for i in chosen] if attempt is None else [attempt.feeds]
        try:
            results = runner.evaluate(
                model,
                "original",
                feeds,
                samples=_SAMPLES[options.full],
                drive=_request(driving, drive),
                timeout=patience(options),
            )
        except RunError as error:
            failures.append(str(error))
            continue
        indices = chosen
        if attempt is not None:
            indices = [len(seen.cases)]
            _run_too(runner, model, attempt, feeds, options, seen)
        seen.runs.append(results.report)
        feeds = [*feeds, *(driving[index] for index in results.kept)]
        indices = [*indices, *range(len(seen.cases), len(seen.cases) + len(results.kept))]
        seen.cases += [drive.cases[index] for index in results.kept]
        seen.arbitration = Arbitration(model, tuple(indices), tuple(feeds), results, drive, driving)
        return
    seen.notes.append(f"{NO_FLOAT64}: {failures[-1]}")


def _run_too(
    runner: Runner,
    model: Signature,
    case: Case,
    feeds: Sequence[dict[str, Any]],
    options: CheckOptions,
    seen: Observations,
) -> None:
    """Run the original on inputs made for the arbiter: neither is worth much without the other."""
    seen.cases.append(case)
    before = seen.original
    if before is None:
        return
    executions = _executions(options, options.provider)
    try:
        results = runner.execute(model, "original", executions, feeds)
    except (RunTimeoutError, ProviderError):
        raise
    except RunError as error:
        seen.notes.append(
            f"onnxruntime does not accept the inputs that were made for float64: {error}"
        )
        return
    values = tuple(row + more for row, more in zip(before.values, results.values, strict=True))
    seen.original = replace(before, values=values)
    seen.feeds = (*seen.feeds, *feeds)
    seen.runs.append(results.report)


def _for_arbiter(model: Signature, options: CheckOptions, seen: Observations) -> list[int]:
    """Return the indices of the cases to evaluate.

    All of them where nothing else judges, or where they are little work; else the smallest, at
    depth QUICK the first of these.
    """
    cases = seen.cases
    work = [multiply_adds(model.structure, case.shapes()) for case in cases]
    little = None not in work and sum(filter(None, work)) <= 1.5 * LITTLE_WORK
    if seen.original is None or little:
        return list(range(len(cases)))
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

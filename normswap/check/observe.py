"""What two models do on the same inputs: in the runtime, and in float64 where that can be had."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from normswap.check.arbitration import arbitrate, arbitrate_rewritten
from normswap.check.cases import make_cases, of_other_sizes
from normswap.check.driving import DOMAINS, DRIVES, attempts, bare_outputs, drawn
from normswap.check.executions import (
    determinism_notes,
    executions,
    levels,
    provider_notes,
    repeats,
)
from normswap.check.observations import Observations, tensors_of
from normswap.check.reorder import batch_size, reordered, restored
from normswap.check.runner import LEVELS, Execution, Results, Runner
from normswap.errors import RunError, RunTimeoutError
from normswap.inputs.dims import tip
from normswap.inputs.random import Distribution
from normswap.runtime.failures import ProviderError, UnsupportedByRuntimeError
from normswap.runtime.randomness import seed_notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.check.options import CheckOptions
    from normswap.inputs.random import Case
    from normswap.inputs.signature import Signature


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
            ways = executions(options, options.provider)
            seen.original = runner.execute(model, "original", ways, seen.feeds)
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
        for case in itertools.islice(of_other_sizes(model, options, seen.cases[0], integers), 2):
            if _add(runner, model, options, seen, [case]):
                break
        if repeats(options, options.provider):
            seen.notes += determinism_notes(seen.original)
        if options.full:
            _reorder(runner, model, seen)
        arbitrate(runner, model, options, seen)
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
    arbitrate(runner, model, options, seen)
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
    arbitrate(runner, model, options, seen)
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
        return _if_taken(runner, model, role, [Execution(level)], feeds, provider)

    plain = run(LEVELS[0])
    if plain is None:
        return None
    return plain, next((level for level in ("extended", "basic") if run(level)), LEVELS[0])


def _if_taken(
    runner: Runner,
    model: Signature,
    role: str,
    ways: Sequence[Execution],
    feeds: Sequence[dict[str, Any]],
    provider: str,
) -> Results | None:
    """Run a model; None where it does not take the inputs."""
    try:
        return runner.execute(model, role, ways, feeds, provider=provider)
    except (RunTimeoutError, ProviderError):
        raise
    except RunError:
        return None


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
    if chosen:
        _add(runner, model, options, seen, [others[index] for index in chosen])


def _add(
    runner: Runner,
    model: Signature,
    options: CheckOptions,
    seen: Observations,
    cases: Sequence[Case],
) -> bool:
    """Run the original on more inputs; return whether it takes them."""
    before, feeds = seen.original, [case.feeds for case in cases]
    ways = executions(options, options.provider)
    more = _if_taken(runner, model, "original", ways, feeds, options.provider)
    if before is None or more is None:
        return False
    values = tuple(a + b for a, b in zip(before.values, more.values, strict=True))
    seen.original = replace(before, values=values)
    seen.runs.append(more.report)
    seen.cases += cases
    seen.feeds = (*seen.feeds, *feeds)
    return True


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
        _run_rewritten(runner, model, options, before, seen)
    arbitrate_rewritten(runner, model, options, before, seen)
    return seen


def _run_rewritten(
    runner: Runner,
    model: Signature,
    options: CheckOptions,
    before: Observations,
    seen: Observations,
) -> None:
    """Run a rewritten model on what the original was run on."""
    provider = options.against_provider
    # Two providers are two sources of noise. That of the other provider shows in how far its
    # own executions of the original are apart, so where the rewritten model is the same file
    # as the original, it is executed in all of these ways there too.
    both = provider is not None and before.path is not None and model.path.samefile(before.path)
    ways = executions(options, provider or "") if both else levels()
    try:
        seen.rewritten = runner.execute(model, "rewritten", ways, seen.feeds, provider=provider)
    except (RunTimeoutError, ProviderError):
        raise
    except RunError as error:
        known = provider or options.provider
        found = None
        if before.arbitration is not None:
            found = _lower_level(runner, model, "rewritten", seen.feeds, known)
        if found is not None:
            seen.rewritten, level = found
            seen.notes.append(_refused(model, level, error))
        else:
            seen.rewritten = _one_by_one(runner, model, ways, seen, known, error)
    seen.runs.append(seen.rewritten.report)
    seen.add_notes(provider_notes(seen.rewritten.report))


def _one_by_one(
    runner: Runner,
    model: Signature,
    ways: Sequence[Execution],
    seen: Observations,
    provider: str,
    refusal: RunError,
) -> Results:
    """Run a rewritten model on each of the inputs, some of which it does not take.

    Raises
    ------
    RunError
        The refusal, where it takes none.
    """
    found = [_if_taken(runner, model, "rewritten", ways, [feeds], provider) for feeds in seen.feeds]
    one = next((results for results in found if results is not None), None)
    if one is None:
        raise refusal
    name = next(case.name for case, run in zip(seen.cases, found, strict=False) if run is None)
    seen.notes.append(f"{model.name} does not take all inputs that the original takes ({name})")
    seen.notes.append(str(refusal))
    rows = (
        tuple({} if run is None else run.values[way][0] for run in found)
        for way in range(len(ways))
    )
    return replace(one, values=tuple(rows))


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

"""Two models in float64: the original on what it can be evaluated on, the other on the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.check.cases import LITTLE_WORK
from normswap.check.cost import multiply_adds, smaller
from normswap.check.driving import Drive, blind, note, plan
from normswap.check.executions import executions
from normswap.check.observations import Arbitration, Observations, Truths, tensors_of
from normswap.errors import RunError, RunTimeoutError
from normswap.inputs.random import Case, Distribution, make_case
from normswap.runtime.failures import ProviderError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normswap.check.options import CheckOptions
    from normswap.check.runner import Runner
    from normswap.inputs.signature import Signature

# Multiply-adds of one evaluation by the arbiter that are worth their time, at depth QUICK and at
# FULL; a ResNet-50 at 224 x 224 has 4e9 of them and takes about a second.
_BUDGET = {False: 5_000_000_000, True: 30_000_000_000}
_SAMPLES = {False: 2, True: 4}
_PATIENCE = 120.0  # seconds that the arbiter may take at depth QUICK
PRECISE = 1e-9
IMPRECISE = 1e-6  # what the arbiter resolves where it has an operator in float32 only
NO_FLOAT64 = (
    "the models could not be compared in float64, so the verdict is based on the "
    "rounding noise of the original in the runtime"
)


def patience(options: CheckOptions) -> float:
    """Return the seconds that one child of the arbiter may take."""
    return options.timeout if options.full else min(options.timeout, _PATIENCE)


def arbitrate(runner: Runner, model: Signature, options: CheckOptions, seen: Observations) -> None:
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
    ways = executions(options, options.provider)
    try:
        results = runner.execute(model, "original", ways, feeds)
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


def arbitrate_rewritten(
    runner: Runner,
    model: Signature,
    options: CheckOptions,
    before: Observations,
    seen: Observations,
) -> None:
    """Evaluate a rewritten model in float64, on what the original was evaluated on.

    Raises
    ------
    RunError
        It can't be, and there is nothing else to go by.
    """
    part = before.arbitration
    if part is None:
        seen.notes += blind(model) if options.arbiter else []
        return
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
        return
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

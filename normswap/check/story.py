"""The whole story of a check."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from normswap.check.bench import LEVELS, Bench, Execution, Progress, Results
from normswap.check.cases import random_cases
from normswap.check.cost import smaller
from normswap.check.dims import Wishes, spatial_sizes
from normswap.check.evidence import Evidence, Truth, gather, is_constant
from normswap.check.inputs import Case, Distribution, make_case
from normswap.check.options import CheckOptions
from normswap.check.report import (
    CaseReport,
    CheckReport,
    OutputReport,
    RunReport,
    leaves,
    reasons_of,
)
from normswap.check.runner import UnsupportedByRuntimeError
from normswap.check.signature import (
    Signature,
    dtype_of_port,
    read_signature,
    structural_differences,
)
from normswap.check.verdict import Verdict, judge, overall
from normswap.errors import RunError, RunTimeoutError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Tensors = dict[str, np.ndarray]

# Multiply-adds of one evaluation by the arbiter that are worth their time, by depth; a ResNet-50
# at 224 x 224 has 4e9 of them and takes about a second.
_BUDGET = {False: 6_000_000_000, True: 30_000_000_000}
_PATIENCE = 120.0  # seconds that the arbiter may take at depth QUICK
_IMPRECISE = 1e-6  # what the arbiter resolves where it has an operator in float32 only


def check(
    original: Path,
    rewritten: Path,
    options: CheckOptions | None = None,
    *,
    progress: Progress | None = None,
) -> CheckReport:
    """Compare two models.

    Parameters
    ----------
    original, rewritten : Path
        The models; external data is found beside them.
    options : CheckOptions, optional
    progress : callable, optional
        Told, in a few words, what is being done.

    Returns
    -------
    CheckReport

    Raises
    ------
    ModelError
        A model is unreadable or invalid.
    RunError, RunTimeoutError
        The runtime could not load or run a model, died of it, or took too long.
    UsageError
        The options fit no input, output or dimension of the models.
    """
    began = time.perf_counter()
    options = options or CheckOptions()
    first, second = read_signature(Path(original)), read_signature(Path(rewritten))
    structure = tuple(structural_differences(first, second))
    seen = _Seen()
    outputs: tuple[OutputReport, ...] = ()
    if not structure:
        with tempfile.TemporaryDirectory(prefix="normswap-check-") as folder:
            bench = Bench(Path(folder), options, progress or (lambda _: None))
            _observe(bench, first, second, options, seen)
            outputs = _judge(first, options, seen)
    verdict = overall([output.judgement for output in outputs])
    failing = {o.case for o in outputs if o.judgement.verdict is Verdict.DIFFERENT}
    return CheckReport(
        verdict=Verdict.DIFFERENT if structure else verdict,
        reasons=(*structure, *reasons_of(outputs)) or _nothing(outputs),
        notes=tuple(seen.notes),
        original=str(first.path),
        rewritten=str(second.path),
        structure=structure,
        cases=tuple(CaseReport(c.name, c.distribution.value, c.shapes()) for c in seen.cases),
        outputs=outputs,
        runs=tuple(seen.runs),
        depth=str(getattr(options.depth, "value", options.depth)),
        provider=options.provider,
        against_provider=options.against_provider,
        seed=options.seed,
        seconds=time.perf_counter() - began,
        failing=tuple(case for case in seen.cases if case.name in failing),
    )


@dataclass(slots=True)
class _Seen:
    """What has been observed so far: filled in as the story goes on.

    Attributes
    ----------
    cases : list of Case
        Those that the runtime ran, then, if need be, one for the arbiter alone.
    original, rewritten : Results or None
        From the runtime; None where it has no kernels for the model.
    truths : dict of int to _Truths
        From the arbiter, by index of the case.
    runs : list of RunReport
    notes : list of str
    """

    cases: list[Case] = field(default_factory=list)
    original: Results | None = None
    rewritten: Results | None = None
    truths: dict[int, _Truths] = field(default_factory=dict)
    runs: list[RunReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Truths:
    """One case in float64, by tensor: the original, its perturbations, and the rewritten."""

    original: Tensors
    perturbed: tuple[Tensors, ...]
    rewritten: Tensors
    resolution: float


def _nothing(outputs: Sequence[OutputReport]) -> tuple[str, ...]:
    return () if outputs else ("there is no output to compare",)


def _observe(
    bench: Bench, first: Signature, second: Signature, options: CheckOptions, seen: _Seen
) -> None:
    """Run both models, in the runtime and in float64."""
    if first.random:
        names = ", ".join(first.random[:5])
        seen.notes.append(f"the operators that draw random numbers got fixed seeds: {names}")
    refusal: RunError | None = None
    wishes = Wishes(options.input_shapes, options.symbolic_dims)
    for spatial in spatial_sizes(first, wishes):
        seen.cases = random_cases(first, options, spatial=spatial)
        feeds = bench.pack(seen.cases)
        try:
            seen.original = bench.execute(first, "original", _executions(options), feeds)
        except UnsupportedByRuntimeError as error:
            _arbitrate(bench, first, second, options, seen)
            if not seen.truths:
                raise
            seen.notes.append(f"judged in float64 alone: {error}")
            return
        except RunTimeoutError:
            raise
        except RunError as error:
            # A shape that the model cannot take ends here. So does every other failure, but
            # that one comes back for each size, and then it is told.
            refusal = refusal or error
            continue
        seen.rewritten = bench.execute(
            second,
            "rewritten",
            [Execution(level) for level in LEVELS],
            feeds,
            provider=options.against_provider,
        )
        seen.runs += [seen.original.report, seen.rewritten.report]
        _note_fallback(seen)
        _arbitrate(bench, first, second, options, seen)
        return
    raise refusal or RunError("There was no input to try.")


def _executions(options: CheckOptions) -> list[Execution]:
    """Return the legal executions of the original that its noise floor is taken from."""
    executions = [Execution(level) for level in LEVELS]
    if options.full:
        executions += [Execution("disabled", 1), Execution("basic"), Execution("extended", 1)]
    return executions


def _note_fallback(seen: _Seen) -> None:
    seen.notes += [
        f"{len(run.fallback)} nodes of the {run.model} model ran on the CPU "
        f"instead of {run.provider}"
        for run in seen.runs
        if run.fallback and run.engine == "onnxruntime"
    ]


def _arbitrate(
    bench: Bench, first: Signature, second: Signature, options: CheckOptions, seen: _Seen
) -> None:
    """Evaluate both models in float64, on inputs that it can be done on in reasonable time."""
    if not options.arbiter:
        return
    budget = _BUDGET[options.full]
    timeout = options.timeout if options.full else min(options.timeout, _PATIENCE)
    chosen = _for_arbiter(seen.cases, options)
    failures = []
    for attempt in [*_reduced(first, options, seen, chosen, budget), None]:
        cases = [seen.cases[i] for i in chosen] if attempt is None else [attempt]
        feeds = bench.pack(cases)
        try:
            original = bench.evaluate(
                first, "original", feeds, samples=4 if options.full else 2, timeout=timeout
            )
            rewritten = bench.evaluate(second, "rewritten", feeds, samples=0, timeout=timeout)
        except RunError as error:
            failures.append(str(error))
            continue
        indices = chosen
        if attempt is not None:
            indices = [len(seen.cases)]
            seen.cases.append(attempt)
        seen.runs += [original.report, rewritten.report]
        for position, index in enumerate(indices):
            seen.truths[index] = _truths(original, rewritten, position, seen)
        return
    seen.notes.append(f"no float64 arbiter, so the noise floor decides: {failures[-1]}")


def _for_arbiter(cases: Sequence[Case], options: CheckOptions) -> list[int]:
    """Return the indices of the cases to evaluate: the smallest at QUICK, all those at FULL."""
    sizes = [
        max(
            (value.size for value in case.feeds.values() if isinstance(value, np.ndarray)),
            default=0,
        )
        for case in cases
    ]
    least = [index for index, size in enumerate(sizes) if size == min(sizes)]
    return least if options.full else least[:1]


def _reduced(
    signature: Signature, options: CheckOptions, seen: _Seen, chosen: Sequence[int], budget: int
) -> list[Case]:
    """Return inputs of smaller size for a model that is too much work at its own, if it is."""
    if any(seen.cases[i].distribution is Distribution.USER for i in chosen):
        return []
    shapes = seen.cases[chosen[0]].shapes()
    return [
        make_case(
            signature,
            size,
            Distribution.NORMAL,
            seed=options.seed,
            ranges=options.value_ranges,
        )
        for size in smaller(signature, shapes, budget)
    ]


def _truths(original: Results, rewritten: Results, position: int, seen: _Seen) -> _Truths:
    imprecise = {*(original.report.fallback or ()), *(rewritten.report.fallback or ())}
    if imprecise and position == 0:
        seen.notes.append(f"the arbiter has no float64 for {', '.join(sorted(imprecise))}")
    plain, *perturbed = (_tensors(row[position]) for row in original.values)
    return _Truths(
        plain,
        tuple(perturbed),
        _tensors(rewritten.values[0][position]),
        _IMPRECISE if imprecise else 1e-9,
    )


def _tensors(values: Mapping[str, object]) -> Tensors:
    return {leaf: array for name, value in values.items() for leaf, array in leaves(name, value)}


def _judge(signature: Signature, options: CheckOptions, seen: _Seen) -> tuple[OutputReport, ...]:
    evidence: list[tuple[str, Evidence]] = []
    constants = _constants(seen, signature)
    for index, case in enumerate(seen.cases):
        truths = seen.truths.get(index)
        before = _by_execution(seen.original, index)
        after = _by_execution(seen.rewritten, index)
        if not before and truths is None:
            continue
        found = _compare(before, after, truths, signature, constants)
        evidence += [(case.name, item) for item in found]
    reports = {}
    backed: dict[str, bool] = {}
    for position, (case_name, item) in enumerate(evidence):
        if item.function is not None:
            judgement = judge(item, options.tolerances)
            reports[position] = OutputReport(case_name, item, judgement)
            same = judgement.verdict is Verdict.EQUIVALENT
            backed[item.output] = backed.get(item.output, True) and same
    for position, (case_name, plain) in enumerate(evidence):
        if position not in reports:
            item = replace(plain, backed=backed.get(plain.output, False))
            reports[position] = OutputReport(case_name, item, judge(item, options.tolerances))
    return tuple(reports[position] for position in range(len(evidence)))


def _by_execution(results: Results | None, index: int) -> list[Tensors]:
    if results is None or index >= len(results.values[0]):
        return []
    return [_tensors(execution[index]) for execution in results.values]


def _compare(
    old: Sequence[Tensors],
    new: Sequence[Tensors],
    truths: _Truths | None,
    signature: Signature,
    constants: frozenset[str],
) -> list[Evidence]:
    """Compare all outputs, of whatever kind, tensor by tensor; `old` and `new` by execution."""
    found = []
    leading = old[0] if old or truths is None else truths.original
    others = new or ([truths.rewritten] if truths is not None else [])
    for leaf, array in leading.items():
        if any(leaf not in tensors for tensors in others):
            fault = "the rewritten model did not give it"
            found.append(Evidence(leaf, array.dtype.name, array.shape, fault=fault))
            continue
        truth = None
        if truths is not None and leaf in truths.original and leaf in truths.rewritten:
            truth = Truth(
                truths.original[leaf],
                truths.rewritten[leaf],
                [sample[leaf] for sample in truths.perturbed if leaf in sample],
                truths.resolution,
            )
        found.append(
            gather(
                leaf,
                [tensors[leaf] for tensors in old if leaf in tensors],
                [tensors[leaf] for tensors in new],
                truth,
                comparable=not signature.random,
                constant=leaf in constants,
                storage=dtype_of_port(signature.outputs, leaf),
            )
        )
    for leaf, array in others[0].items() if others else ():
        if leaf not in leading:
            fault = "the original did not give it"
            found.append(Evidence(leaf, array.dtype.name, array.shape, fault=fault))
    return found


def _constants(seen: _Seen, signature: Signature) -> frozenset[str]:
    """Return the tensors that never varied, of the outputs that ought to."""
    arrays: dict[str, list[np.ndarray]] = {}
    if seen.original is not None:
        observed = [_tensors(values) for values in seen.original.values[0]]
    else:
        observed = [truths.original for truths in seen.truths.values()]
    for tensors in observed:
        for leaf, array in tensors.items():
            if leaf.split("[", 1)[0] in signature.varying or leaf in signature.varying:
                arrays.setdefault(leaf, []).append(array)
    return frozenset(leaf for leaf, values in arrays.items() if is_constant(values))

"""The whole story of a check."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from normswap.check.bench import LEVELS, Bench, Execution, Progress, Results
from normswap.check.cases import random_cases
from normswap.check.dims import Wishes, spatial_sizes
from normswap.check.evidence import Evidence, gather, is_constant
from normswap.check.options import CheckOptions
from normswap.check.report import CaseReport, CheckReport, OutputReport, leaves, reasons_of
from normswap.check.runner import UnsupportedByRuntimeError
from normswap.check.signature import Signature, read_signature, structural_differences
from normswap.check.verdict import Verdict, judge, overall
from normswap.errors import RunError, RunTimeoutError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.check.inputs import Case


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
    cases: list[Case] = []
    outputs: tuple[OutputReport, ...] = ()
    runs: list[Results] = []
    if not structure:
        with tempfile.TemporaryDirectory(prefix="normswap-check-") as folder:
            bench = Bench(Path(folder), options, progress or (lambda _: None))
            cases, runs = _run_both(bench, first, second, options)
            outputs = _judge(cases, runs[0], runs[1], first, options)
    verdict = overall([output.judgement for output in outputs])
    failing = {o.case for o in outputs if o.judgement.verdict is Verdict.DIFFERENT}
    return CheckReport(
        verdict=Verdict.DIFFERENT if structure else verdict,
        reasons=(*structure, *reasons_of(outputs)) or _nothing(outputs),
        notes=tuple(_notes(first, runs)),
        original=str(first.path),
        rewritten=str(second.path),
        structure=structure,
        cases=tuple(CaseReport(c.name, c.distribution.value, c.shapes()) for c in cases),
        outputs=outputs,
        runs=tuple(run.report for run in runs),
        depth=str(getattr(options.depth, "value", options.depth)),
        provider=options.provider,
        against_provider=options.against_provider,
        seed=options.seed,
        seconds=time.perf_counter() - began,
        failing=tuple(case for case in cases if case.name in failing),
    )


def _nothing(outputs: Sequence[OutputReport]) -> tuple[str, ...]:
    return () if outputs else ("there is no output to compare",)


def _run_both(
    bench: Bench, first: Signature, second: Signature, options: CheckOptions
) -> tuple[list[Case], list[Results]]:
    """Find inputs that the original accepts, and run both models on them."""
    wishes = Wishes(options.input_shapes, options.symbolic_dims)
    refusal: RunError | None = None
    for spatial in spatial_sizes(first, wishes):
        cases = random_cases(first, options, spatial=spatial)
        feeds = bench.pack(cases)
        try:
            original = bench.execute(first, "original", _executions(options), feeds)
        except (RunTimeoutError, UnsupportedByRuntimeError):
            raise
        except RunError as error:
            # A shape that the model cannot take ends here; so does every other failure, but
            # that one comes back for each size, and then it is told.
            refusal = refusal or error
            continue
        rewritten = bench.execute(
            second,
            "rewritten",
            [Execution(level) for level in LEVELS],
            feeds,
            provider=options.against_provider,
        )
        return cases, [original, rewritten]
    raise refusal or RunError("There was no input to try.")


def _executions(options: CheckOptions) -> list[Execution]:
    """Return the legal executions of the original that its noise floor is taken from."""
    executions = [Execution(level) for level in LEVELS]
    if options.full:
        executions += [Execution("disabled", 1), Execution("basic"), Execution("extended", 1)]
    return executions


def _judge(
    cases: Sequence[Case],
    original: Results,
    rewritten: Results,
    signature: Signature,
    options: CheckOptions,
) -> tuple[OutputReport, ...]:
    evidence: list[tuple[str, Evidence]] = []
    constants = _constants(original, signature)
    for index, case in enumerate(cases):
        before = [execution[index] for execution in original.values]
        after = [execution[index] for execution in rewritten.values]
        for name in before[0]:
            old = [dict(leaves(name, values[name])) for values in before]
            new = [dict(leaves(name, values[name])) for values in after]
            evidence += [(case.name, found) for found in _compare(old, new, constants)]
    return tuple(
        OutputReport(case, found, judge(found, options.tolerances)) for case, found in evidence
    )


Tensors = dict[str, np.ndarray]


def _compare(
    old: Sequence[Tensors], new: Sequence[Tensors], constants: frozenset[str]
) -> list[Evidence]:
    """Compare one output, of whatever kind, tensor by tensor; each argument is by execution."""
    found = []
    for leaf, array in old[0].items():
        if any(leaf not in tensors for tensors in new):
            fault = "the rewritten model did not give it"
            found.append(Evidence(leaf, array.dtype.name, array.shape, fault=fault))
            continue
        executions = [tensors[leaf] for tensors in old if leaf in tensors]
        rewritten = [tensors[leaf] for tensors in new]
        found.append(gather(leaf, executions, rewritten, None, constant=leaf in constants))
    for leaf, array in new[0].items():
        if leaf not in old[0]:
            fault = "the original did not give it"
            found.append(Evidence(leaf, array.dtype.name, array.shape, fault=fault))
    return found


def _constants(original: Results, signature: Signature) -> frozenset[str]:
    """Return the tensors that never varied, of the outputs that ought to."""
    seen: dict[str, list[np.ndarray]] = {}
    for values in original.values[0]:
        for name in signature.varying:
            for leaf, array in leaves(name, values[name]):
                seen.setdefault(leaf, []).append(array)
    return frozenset(leaf for leaf, arrays in seen.items() if is_constant(arrays))


def _notes(signature: Signature, runs: Sequence[Results]) -> list[str]:
    notes = []
    if signature.random:
        notes.append(
            f"the random operators were given fixed seeds: {', '.join(signature.random[:5])}"
        )
    notes += [
        f"{len(run.report.fallback)} nodes of the {run.report.model} model ran on the CPU "
        f"instead of {run.report.provider}"
        for run in runs
        if run.report.fallback
    ]
    return notes

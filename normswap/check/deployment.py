"""One run of either model as users run it: where the function is proved, all that is left to see.

That they load, run, and come to the same within what rounding may do, at onnxruntime's default
level of optimization. Both run in one process, which starts while the proof goes on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from normswap.check.compare import compare
from normswap.check.driving import attempts
from normswap.check.evidence import ZERO
from normswap.check.observe import Observations, provider_notes
from normswap.check.report import OutputReport
from normswap.check.runner import LEVELS, Execution
from normswap.check.verdict import NOT_FINITE, Judgement, Verdict, judge
from normswap.errors import RunError
from normswap.inputs.dims import RequestedSizes, solve
from normswap.inputs.random import Case, Distribution, Draw, make_case
from normswap.proof.result import Standing
from normswap.runtime.child import Child
from normswap.runtime.providers import CPU, full_name
from normswap.runtime.randomness import seed_notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import ExitStack

    from normswap.check.options import CheckOptions
    from normswap.check.runner import Runner
    from normswap.inputs.signature import Signature
    from normswap.proof.result import Proof
    from normswap.runtime.arrays import Feeds


def is_enough(options: CheckOptions) -> bool:
    """Whether a proof and one run of each model answer all that was asked for."""
    asked = (
        options.full,
        options.data is not None,
        options.against_provider is not None,
        options.batch_invariant,
        options.self_test,
        options.iterations,
        options.tolerances,
        full_name(options.provider) != CPU,
        not options.arbiter,
    )
    return options.proof and not any(asked)


def start(options: CheckOptions, stack: ExitStack) -> Child:
    """Start the process in which both models will run; an error is not kept waiting by it."""
    child = stack.enter_context(
        Child("a model", timeout=options.timeout, memory_limit=options.memory_limit, warm=True)
    )
    stack.push(lambda kind, _error, _trace: child.kill() if kind is not None else None)
    return child


def deploy(
    runner: Runner,
    child: Child,
    original: Signature,
    rewritten: Signature,
    options: CheckOptions,
    data: Sequence[Feeds] = (),
    *,
    levels: Sequence[str] = LEVELS[-1:],
) -> Observations | None:
    """Run both models once, on data or random inputs; None where that fails, for whatever reason.

    Parameters
    ----------
    runner : Runner
    child : Child
    original, rewritten : Signature
    options : CheckOptions
    data : sequence of feeds
    levels : sequence of str
        Of optimization: the one that users run first. Others tell how noisy the models are.
    """
    executions = [Execution(level) for level in levels]
    seen = Observations(path=original.path)
    seen.notes += seed_notes(original.random)
    for case in _tried(original, options, data):
        seen.cases = [case]
        feeds = [case.feeds for case in seen.cases]
        try:
            seen.original = runner.execute(original, "original", executions, feeds, child=child)
        except RunError:
            continue
        try:
            seen.rewritten = runner.execute(rewritten, "rewritten", executions, feeds, child=child)
        except RunError:
            return None
        for results in (seen.original, seen.rewritten):
            seen.runs.append(results.report)
            seen.add_notes(provider_notes(results.report))
        return seen
    return None


def _tried(original: Signature, options: CheckOptions, data: Sequence[Feeds]) -> Iterator[Case]:
    """Yield inputs until the original takes them."""
    for feeds in data:
        yield Case("data", Distribution.USER, dict(feeds))
        return
    requested = RequestedSizes(options.input_shapes, options.symbolic_dims)
    for spatial, integers in attempts(original, options):
        shapes = solve(original, requested, batch=1, spatial=spatial)
        draw = Draw(Distribution.NORMAL, integers=integers)
        yield make_case(original, shapes, draw, seed=options.seed, ranges=options.value_ranges)


def proved_outputs(
    original: Signature, seen: Observations, proof: Proof
) -> tuple[OutputReport, ...] | None:
    """Judge the outputs of models that are proved to be one function, by one run of each.

    Returns
    -------
    tuple of OutputReport or None
        None where the runs are further apart than one run can tell to be rounding.
    """
    standings = {output.name: output.standing for output in proof.outputs}
    found = []
    for report in compare(original, seen, {}):
        evidence = report.evidence
        evidence = replace(evidence, backed=ZERO, constant=False, deployed=evidence.verdict_level)
        run = judge(evidence, {})
        if run.verdict is not Verdict.EQUIVALENT and run.basis != "values":
            return None
        if run.verdict is Verdict.DIFFERENT or run.reason == NOT_FINITE:
            return None
        name = report.name.split("[", 1)[0]
        how = "proved"
        if standings.get(report.name, standings.get(name)) is Standing.IDENTICAL:
            how = "the same operators on the same constants"
        off = 0.0 if evidence.verdict_level is None else evidence.verdict_level.max_abs
        reason = f"{how}; in the runtime it is off by {off:.3g}"
        judgement = Judgement(Verdict.EQUIVALENT, "proof", reason, run.allowed)
        found.append(OutputReport(report.case, evidence, judgement))
    return tuple(found) or None


def with_proof(
    outputs: tuple[OutputReport, ...], proof: Proof, *, strict: bool = False
) -> tuple[OutputReport, ...]:
    """Return what a test of outputs came to, with what was proved of them.

    What is proved needs no output that varies, but one that is a number somewhere. Where all is
    equal but for one region that is off by little, an output in which that shows is another
    function, though a whole network may hide how much. If `strict`, any region that is another
    function makes what depends on it different.
    """
    known = {output.name: output.standing for output in proof.outputs}
    fault = proof.fault
    found = []
    for report in outputs:
        judgement = report.judgement
        standing = known.get(report.name, known.get(report.name.split("[", 1)[0]))
        proved = standing in {Standing.IDENTICAL, Standing.PROVED}
        bare = report.evidence.fault is None and judgement.reason != NOT_FINITE
        if proved and judgement.verdict is Verdict.INCONCLUSIVE and bare:
            judgement = Judgement(Verdict.EQUIVALENT, "proof", f"proved, though {judgement.reason}")
        apart = standing is Standing.APART
        shows = apart and _differs(report)
        if strict and apart and judgement.verdict is not Verdict.DIFFERENT:
            reason = f"all is equal but {'; and '.join(map(str, proof.apart))}"
            judgement = Judgement(Verdict.DIFFERENT, "proof", reason)
        elif fault is not None and shows and judgement.verdict is Verdict.EQUIVALENT:
            judgement = Judgement(Verdict.DIFFERENT, "proof", f"all is equal but {fault}")
        found.append(replace(report, judgement=judgement))
    return tuple(found)


def _differs(report: OutputReport) -> bool:
    """Whether two runs gave anything else for an output, be it by rounding."""
    level = report.evidence.verdict_level or report.evidence.deployed
    return level is not None and level.max_abs > 0

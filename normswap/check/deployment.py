"""One run of either model as users run it: where the function is proved, all that is left to see.

That they load, run, and come to the same within what rounding may do, at onnxruntime's default
level of optimization. Both run in one process, which starts while the proof goes on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import ml_dtypes
from onnx import TensorProto

from normswap.check.compare import compare
from normswap.check.driving import attempts
from normswap.check.evidence import ZERO
from normswap.check.executions import provider_notes
from normswap.check.observations import Observations
from normswap.check.report import OutputReport
from normswap.check.runner import LEVELS, Execution
from normswap.check.verdict import NOT_FINITE, Judgement, Verdict, judge
from normswap.dtypes import NUMPY_DTYPES
from normswap.errors import RunError
from normswap.inputs.dims import RequestedSizes, solve
from normswap.inputs.random import Case, Distribution, Draw, make_case
from normswap.proof.result import BEYOND_TESTS, Standing
from normswap.runtime.randomness import seed_notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.check.evidence import Evidence
    from normswap.check.options import CheckOptions
    from normswap.check.runner import Runner
    from normswap.inputs.signature import Signature
    from normswap.proof.result import Proof
    from normswap.runtime.arrays import Feeds
    from normswap.runtime.child import Child

_NAMED = 2  # regions in a sentence


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
        evidence = in_precision(report.evidence, proof)
        evidence = replace(evidence, backed=ZERO, constant=False, deployed=evidence.verdict_level)
        run = judge(evidence, {})
        if proof.precision and run.verdict is Verdict.DIFFERENT and run.basis == "noise floor":
            found.append(OutputReport(report.case, evidence, _inaccurate(run, proof)))
            continue
        if run.verdict is not Verdict.EQUIVALENT and run.basis != "values":
            return None
        if run.verdict is Verdict.DIFFERENT or run.reason == NOT_FINITE:
            return None
        name = report.name.split("[", 1)[0]
        how = f"proved to within {proof.precision}" if proof.precision else "proved"
        if (
            not proof.precision
            and standings.get(report.name, standings.get(name)) is Standing.IDENTICAL
        ):
            how = "the same operators on the same constants"
        off = 0.0 if evidence.verdict_level is None else evidence.verdict_level.max_abs
        reason = f"{how}; in the runtime the outputs differ by at most {off:.3g}"
        judgement = Judgement(Verdict.EQUIVALENT, "proof", reason, run.allowed)
        found.append(OutputReport(report.case, evidence, judgement))
    return tuple(found) or None


def in_precision(evidence: Evidence, proof: Proof) -> Evidence:
    """Return the evidence of an output, its unit roundoff that of what a model was converted to."""
    if not proof.precision or not evidence.unit_roundoff:
        return evidence
    kind = NUMPY_DTYPES[TensorProto.DataType.Value(proof.precision.upper())]
    return replace(evidence, unit_roundoff=float(ml_dtypes.finfo(kind).eps) / 2)


def _inaccurate(run: Judgement, proof: Proof) -> Judgement:
    """Return what is said of a conversion that is right, and further off than its type explains."""
    reason = f"proved to within {proof.precision}, but {run.reason}"
    return replace(run, verdict=Verdict.INCONCLUSIVE, basis="proof", reason=reason)


def with_proof(
    outputs: tuple[OutputReport, ...], proof: Proof, *, strict: bool = False
) -> tuple[OutputReport, ...]:
    """Return what a test of outputs came to, with what was proved of them.

    What is proved needs no output that varies, but one that is a number somewhere. Where all is
    equal but for some regions, an output that shows these is another function, though a whole
    network may hide how much; and where none shows one that is no step of a rewrite, no test on
    some inputs makes it the same. Nor does one settle what hangs on sizes that were not tried, or
    what only one of the models rounds to a narrower type. What was converted to a narrower type
    may be off by what that explains. If `strict`, a region that is another function makes what
    depends on it different, if it is the only one: of two, the one may have what the other lacks.
    """
    if proof.precision and proof.is_whole:
        return tuple(_converted(report, proof) for report in outputs)
    known = {output.name: output.standing for output in proof.outputs}
    why = {output.name: output.reason for output in proof.outputs}
    found = []
    for report in outputs:
        judgement = report.judgement
        standing = known.get(report.name, known.get(report.name.split("[", 1)[0]))
        proved = standing in {Standing.IDENTICAL, Standing.PROVED}
        bare = report.evidence.fault is None and judgement.reason != NOT_FINITE
        if proved and judgement.verdict is Verdict.INCONCLUSIVE and bare:
            judgement = Judgement(
                Verdict.EQUIVALENT, "proof", f"proved, although {judgement.reason}"
            )
        apart = standing is Standing.APART
        alone = strict and apart and len(proof.apart) == 1
        if apart and judgement.verdict is not Verdict.DIFFERENT:
            judgement = _apart(report, proof, alone=alone)
        elif judgement.verdict is Verdict.EQUIVALENT and standing is Standing.OPEN:
            judgement = _unsettled(report, why.get(report.name.split("[", 1)[0], ""))
        found.append(replace(report, judgement=judgement))
    return tuple(found)


def _converted(report: OutputReport, proof: Proof) -> OutputReport:
    """Judge an output of a conversion by what its own type explains."""
    evidence = in_precision(report.evidence, proof)
    if evidence.fault is None and evidence.verdict_level is None:
        run = Judgement(Verdict.EQUIVALENT, "proof", f"proved to within {proof.precision}")
    else:
        bare = replace(evidence, function=None, backed=ZERO, error_original=None)
        bare = replace(bare, error_rewritten=None, error_original_deployed=None)
        run = judge(replace(bare, error_deployed=None, constant=False), {})
    if run.verdict is Verdict.DIFFERENT and run.basis == "noise floor":
        run = _inaccurate(run, proof)
    return replace(report, evidence=evidence, judgement=run)


def _apart(report: OutputReport, proof: Proof, *, alone: bool) -> Judgement:
    """Judge an output that is not tested different, and hangs on regions that are other functions.

    Of one that is `alone` nobody asks whether it shows.
    """
    shows = proof.witness
    said = f"everything is proved equal except {' and '.join(map(str, proof.apart[:_NAMED]))}"
    if shows is not None and shows.is_plain and shows.output == report.name:
        return Judgement(Verdict.DIFFERENT, "proof", f"{said}; {shows}")
    if alone:
        return Judgement(Verdict.DIFFERENT, "proof", said)
    if report.judgement.verdict is Verdict.EQUIVALENT and proof.fault is not None:
        said += "; the output is not changed by it on these inputs"
        return Judgement(Verdict.INCONCLUSIVE, "proof", said)
    return report.judgement


def _unsettled(report: OutputReport, reason: str) -> Judgement:
    """Judge an output that is tested equal, and open for a reason that tests don't settle."""
    if any(words in reason for words in BEYOND_TESTS):
        said = f"the outputs are the same on these inputs, but {reason}"
        return Judgement(Verdict.INCONCLUSIVE, "proof", said)
    return report.judgement

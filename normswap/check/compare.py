"""From observations to a judged report for every output on every set of inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from normswap.check.evidence import Distance, Evidence, Truth, gather, is_constant
from normswap.check.golden import against_expected
from normswap.check.observations import Observations, Tensors, Truths, tensors_of
from normswap.check.report import OutputReport
from normswap.check.verdict import RULES, Rules, Verdict, departures, judge, relative
from normswap.inputs.signature import Signature, dtype_of_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from normswap.check.options import Tolerance
    from normswap.check.runner import Results


def compare(
    signature: Signature,
    seen: Observations,
    tolerances: Mapping[str, Tolerance],
    rules: Rules = RULES,
) -> tuple[OutputReport, ...]:
    """Compare all outputs on all inputs.

    Parameters
    ----------
    signature : Signature
        Of the original.
    seen : Observations
    tolerances : Mapping of str to Tolerance
        As in `normswap.check.verdict.judge`.
    rules : Rules
    """
    evidence: list[tuple[str, Evidence]] = []
    constants = _constants(seen, signature)
    for index, case in enumerate(seen.cases):
        truths = seen.truths.get(index)
        before, after = _executions(seen.original, index), _executions(seen.rewritten, index)
        if before or truths is not None:
            found = _compare_case(
                before, after, truths, signature, constants, seen.reordered.get(index, {})
            )
            evidence += [(case.name, item) for item in found]
        if case.expected and seen.rewritten is not None:
            given = [execution[index] for execution in seen.rewritten.values]
            expected = against_expected(case.expected, given)
            evidence += [(f"{case.name}, expected outputs", item) for item in expected]
    return judge_all(evidence, tolerances, rules)


def judge_all(
    evidence: Sequence[tuple[str, Evidence]],
    tolerances: Mapping[str, Tolerance],
    rules: Rules = RULES,
) -> tuple[OutputReport, ...]:
    """Judge pieces of evidence, each with the name of its case.

    What the arbiter saw is judged first: where it found an output to be the same function, that
    backs the noise floor's judgement of the same output on other inputs.
    """
    floors: dict[str, Distance] = {}
    doubted: set[str] = set()
    for _, item in evidence:
        if item.function is None:
            continue
        found = judge(item, tolerances, rules)
        if found.verdict is not Verdict.EQUIVALENT or departures(item, rules):
            doubted.add(item.output)
        floor = relative(item.function.floor, item.scale)
        floors[item.output] = floor.larger(floors.get(item.output))
    reports = []
    for case, plain in evidence:
        item = plain
        if plain.function is None and plain.output in floors.keys() - doubted:
            item = replace(plain, backed=floors[plain.output])
        reports.append(OutputReport(case, item, judge(item, tolerances, rules)))
    return _telling(reports)


def _telling(reports: Sequence[OutputReport]) -> tuple[OutputReport, ...]:
    """Return the reports, without those of inputs that tell nothing of an output others tell of.

    Where NaN was in both models, or nothing at all, nothing was compared; that it was in both is
    judged before.
    """
    told = {r.name for r in reports if not _tells_nothing(r)}
    return tuple(r for r in reports if not _tells_nothing(r) or r.name not in told)


def _tells_nothing(report: OutputReport) -> bool:
    judgement = report.judgement
    return judgement.verdict is Verdict.INCONCLUSIVE and judgement.basis == "values"


def _executions(results: Results | None, index: int) -> list[Tensors]:
    if results is None or index >= len(results.values[0]):
        return []
    return [tensors_of(execution[index]) for execution in results.values]


def _compare_case(
    old: Sequence[Tensors],
    new: Sequence[Tensors],
    truths: Truths | None,
    signature: Signature,
    constants: frozenset[str],
    reordered: Tensors,
) -> list[Evidence]:
    """Compare all outputs, of whatever kind, tensor by tensor; `old` and `new` by execution."""
    leading = old[0] if old or truths is None else truths.original
    others = new or ([truths.rewritten] if truths is not None else [])
    found = []
    for leaf, array in leading.items():
        if any(leaf not in tensors for tensors in others):
            fault = "the rewritten model did not return it"
            found.append(Evidence(leaf, array.dtype.name, array.shape, fault=fault))
            continue
        found.append(
            gather(
                leaf,
                [tensors[leaf] for tensors in old if leaf in tensors],
                [tensors[leaf] for tensors in new],
                _truth(truths, leaf),
                comparable=not signature.random,
                alike=bool(signature.random),
                constant=leaf in constants,
                storage=dtype_of_port(signature.outputs, leaf),
                reordered=reordered.get(leaf),
            )
        )
    for leaf, array in others[0].items() if others else ():
        if leaf not in leading:
            fault = "the original did not return it"
            found.append(Evidence(leaf, array.dtype.name, array.shape, fault=fault))
    return found


def _truth(truths: Truths | None, leaf: str) -> Truth | None:
    if truths is None or leaf not in truths.original or leaf not in truths.rewritten:
        return None
    perturbed = [sample[leaf] for sample in truths.perturbed if leaf in sample]
    rounded = [(a[leaf], b[leaf]) for a, b in truths.rounded if leaf in a and leaf in b]
    return Truth(
        truths.original[leaf], truths.rewritten[leaf], perturbed, truths.resolution, rounded
    )


def _constants(seen: Observations, signature: Signature) -> frozenset[str]:
    """Return the tensors of outputs that never varied, and ought to.

    The elements of a sequence are one output: that some are alike each time says nothing.
    """
    if seen.original is not None:
        observed = [tensors_of(values) for values in seen.original.values[0]]
    else:
        observed = [truths.original for truths in seen.truths.values()]
    arrays: dict[str, list[np.ndarray]] = {}
    leaves: dict[str, set[str]] = {}
    for tensors in observed:
        for leaf, array in tensors.items():
            output = signature.varying_output(leaf)
            if output is not None:
                arrays.setdefault(output, []).append(array)
                leaves.setdefault(output, set()).add(leaf)
    constant = [leaves[output] for output, values in arrays.items() if is_constant(values)]
    return frozenset().union(*constant)

"""What a check would have caught: an estimate from its evidence, or faults planted for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.check.arbitration import patience
from normswap.check.evidence import Truth, gather
from normswap.check.observations import tensors_of
from normswap.check.report import OutputReport, Power
from normswap.check.verdict import Verdict, judge
from normswap.proof.faults import draw_faults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.check.observations import Observations
    from normswap.check.options import CheckOptions
    from normswap.check.runner import Runner
    from normswap.inputs.signature import Signature

_SILENT = 1e-12  # of the output's scale: less than this is float64's own rounding


def estimate(outputs: Sequence[OutputReport]) -> Power | None:
    """Return the smallest error that the check would have rejected, in parts of the output.

    Of an output the best of the cases counts, of several outputs the worst.
    """
    least: dict[str, float] = {}
    for report in outputs:
        allowed, scale = report.judgement.allowed, report.evidence.scale
        if allowed is None or not report.evidence.unit_roundoff or scale.rms == 0:
            continue
        function = report.evidence.function
        if function is not None and report.judgement.basis == "arbiter":
            smallest = 8 * function.floor.rms / scale.rms
        else:
            smallest = allowed / scale.max
        least[report.name] = min(smallest, least.get(report.name, smallest))
    return Power("estimate", max(least.values())) if least else None


def self_test(
    runner: Runner,
    rewritten: Signature,
    seen: Observations,
    options: CheckOptions,
) -> Power | None:
    """Plant faults in the rewritten model, and see which of them this check catches.

    Each is evaluated in float64 on the inputs of the arbiter and judged as the model itself was.

    Returns
    -------
    Power or None
        None where the arbiter could not evaluate the models, or there is nothing to spoil.
    """
    faults = draw_faults(str(rewritten.path), options.self_test, options.seed)
    case = seen.arbiter_case
    if case is None or not faults:
        return None
    truths = next(iter(seen.truths.values()))
    results = runner.evaluate(
        rewritten,
        "rewritten",
        [case.feeds],
        faults=faults,
        timeout=patience(options) * len(faults),
    )
    silent = 0
    missed = []
    for fault, values in zip(faults, results.values[1:], strict=True):
        faulty = tensors_of(values[0])
        effects = []
        caught = False
        for leaf, right in truths.original.items():
            truth = Truth(right, faulty[leaf], [s[leaf] for s in truths.perturbed])
            evidence = gather(leaf, [], [], truth)
            function = evidence.function
            if function is not None:
                scale = max(evidence.scale.rms, 1e-300)
                effects.append(max(function.deviation.rms / scale, float(function.mismatches)))
            caught |= judge(evidence, options.tolerances).verdict is Verdict.DIFFERENT
        if caught:
            continue
        if max(effects, default=0.0) <= _SILENT:
            silent += 1
        else:
            missed.append(f"{fault}, which changes the output by {max(effects):.2g} of its scale")
    return Power(
        "planted",
        planted=len(faults),
        caught=len(faults) - silent - len(missed),
        silent=silent,
        missed=tuple(missed),
    )

"""From evidence to a verdict: a pure function, with every threshold in one place.

Two questions are asked of an output.

*Is it the same function?* In float64 both models are evaluated on the same inputs. They may
differ by what rounding the rewritten weights once can do, which is measured: the weight-rounding
floor of the original (`normswap.check.evidence.Function`). A channel scaled by 1.001 stands out
of it by orders of magnitude in float32.

*Is it as accurate in the runtime?* Each model's float32 (float16, ...) result is compared with
its own float64 truth. The rewritten model may err no more than the original does, give or take
a factor for the fluctuation of rounding.

That rests on float64 and the runtime agreeing on what a model computes, and so does the worth of
either. Where the runtime is further from float64 than rounding explains, on whichever of the two
models and at whichever level, one of the two is wrong: a kernel of the runtime, or an operator of
the arbiter. Then the arbiter is not believed, and the two runtime results are compared with each
other at both levels; what float64 still can do is to keep an agreement from being called one.

Where float64 cannot be had, the two runtime results are compared with each other, against the
noise floor of the original: legal executions that differ only in rounding. That floor is
bounded, so that a wildly noisy model hides no fault: beyond the bound the answer is
"inconclusive", never "equivalent".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from normswap.check.evidence import ZERO, Distance, Evidence, Function
from normswap.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normswap.check.metrics import Metrics
    from normswap.check.options import Tolerance


class Verdict(str, enum.Enum):
    """Whether a model is the function that it should be: the original's, or that of its swap."""

    EQUIVALENT = "equivalent"
    DIFFERENT = "different"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> ExitCode:
        """How a command that found this ends."""
        return {
            Verdict.EQUIVALENT: ExitCode.OK,
            Verdict.DIFFERENT: ExitCode.FINDINGS,
            Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
        }[self]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, what it rests on, and why.

    Attributes
    ----------
    verdict : Verdict
    basis : str
        ``arbiter``, ``noise floor``, ``tolerance``, ``values`` or ``shape``.
    reason : str
        One sentence for a person.
    allowed : float or None
        The largest error that would have passed, in the terms of the basis.
    """

    verdict: Verdict
    basis: str
    reason: str
    allowed: float | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """The thresholds.

    Attributes
    ----------
    function : float
        Weight-rounding floors that the two functions may be apart. Perturbations are uniform
        within half a unit in the last place, of RMS 0.58 of that; a rewriter that rounds in
        float32 three or four times instead of once has been seen at 3.5.
    function_relative : float
        Part of the output's scale that they may be apart in any case: float64's own rounding.
    runtime : float
        How many times the original's error the rewritten model may err. Both are maxima over
        many roundings; ratios above 4 have not been seen on correct rewrites.
    runtime_ulps : float
        Units of roundoff, at the scale of the output, that any model may err.
    floors : float
        Weight-rounding floors that a result of the runtime may be from its float64 truth.
    rounding : float
        Or so many times what perturbing every weight and result does, where that was measured.
        Sums of many terms round oftener than once a result.
    rounding_ulps : float
        Units of roundoff, at the scale of the output, that it may be off in any case.
    flips : float
        Part of the elements of a discrete output that may be others in the runtime than in
        float64; near ties happen.
    strays : float
        Part of the elements that may be finite in the runtime alone.
    noise : float
        The same as `runtime`, where only the noise floor is known.
    noise_ulps : float
        The same as `runtime_ulps`, where only the noise floor is known.
    noise_bound : float
        Square root of the unit roundoff times this is the part of the output's scale beyond
        which noise explains nothing: 5e-4 in float32, 0.04 in float16.
    mismatches : float
        Part of the elements of a discrete output that may flip in any case; near ties happen.
    """

    function: float = 8.0
    function_relative: float = 1e-9
    runtime: float = 16.0
    runtime_ulps: float = 8.0
    floors: float = 16.0
    rounding: float = 64.0
    rounding_ulps: float = 64.0
    flips: float = 0.05
    strays: float = 1e-3
    noise: float = 8.0
    noise_ulps: float = 64.0
    noise_bound: float = 2.0
    mismatches: float = 1e-5


RULES = Rules()


@dataclass(frozen=True, slots=True)
class Departure:
    """A model on which the runtime is further from float64 than rounding explains.

    Attributes
    ----------
    model : str
        ``original`` or ``rewritten``.
    level : str
        ``disabled`` or ``default``, the runtime's optimization level; ``both``.
    error, explained : float
        The maximum, and how much of it rounding explains; of types that are no floats, elements.
    """

    model: str
    level: str
    error: float
    explained: float


NOT_FINITE = "all values of the original are NaN or infinite"


def explained(evidence: Evidence, rules: Rules = RULES) -> Distance:
    """Return how far from float64 rounding may take a result of the runtime."""
    function, scale = evidence.function, evidence.scale
    floor = function.floor if function is not None else ZERO
    resolution = function.resolution if function is not None else 0.0
    moved = evidence.rounding or ZERO
    part = rules.rounding_ulps * evidence.unit_roundoff + resolution
    return Distance(
        max(rules.floors * floor.rms, rules.rounding * moved.rms) + part * scale.rms,
        max(rules.floors * floor.max, rules.rounding * moved.max) + part * scale.max,
    )


def departures(evidence: Evidence, rules: Rules = RULES) -> tuple[Departure, ...]:
    """Return the models on which the runtime departs from float64."""
    elements = _product(evidence.shape)
    part = rules.strays if evidence.unit_roundoff else rules.flips
    flips = rules.runtime / 4 * evidence.rounding_flips + int(part * elements) + 1
    limit = explained(evidence, rules)
    found = []
    for model, plain, deployed, strays in (
        (
            "original",
            evidence.error_original,
            evidence.error_original_deployed,
            evidence.flips_original,
        ),
        (
            "rewritten",
            evidence.error_rewritten,
            evidence.error_deployed,
            evidence.flips_rewritten,
        ),
    ):
        off = {
            level: error
            for level, error in (("disabled", plain), ("default", deployed))
            if error is not None and not (error.rms <= limit.rms and error.max <= limit.max)
        }
        if off:
            level = "both" if len(off) > 1 else next(iter(off))
            largest = max(error.max for error in off.values())
            found.append(Departure(model, level, largest, limit.max))
        elif strays > flips:
            found.append(Departure(model, "both", float(strays), float(flips)))
    return tuple(found)


def judge(
    evidence: Evidence, tolerances: Mapping[str, Tolerance], rules: Rules = RULES
) -> Judgement:
    """Reach the verdict on one output.

    Parameters
    ----------
    evidence : Evidence
    tolerances : Mapping of str to Tolerance
        A person's overrides by output name; ``""`` stands for every output.
    rules : Rules
    """
    if evidence.fault is not None:
        return Judgement(Verdict.DIFFERENT, "shape", evidence.fault)
    elements = _product(evidence.shape)
    if elements == 0:
        return Judgement(
            Verdict.INCONCLUSIVE,
            "values",
            "the output has no elements, so there is nothing to compare",
        )
    metrics = evidence.verdict_level
    if metrics is not None:
        apart = metrics.nan_disagreements + metrics.inf_disagreements
        if apart > evidence.noise_disagreements:
            return Judgement(
                Verdict.DIFFERENT,
                "values",
                f"{apart} elements are NaN or infinite in only one of the models",
            )
        if evidence.unit_roundoff and metrics.reference_max == 0 and not metrics.histogram:
            return Judgement(Verdict.INCONCLUSIVE, "values", NOT_FINITE)
    tolerance = tolerances.get(evidence.output, tolerances.get(""))
    if tolerance is not None and metrics is not None:
        found = _by_tolerance(metrics, tolerance)
    elif departed := departures(evidence, rules):
        found = _by_runtime(evidence, departed, elements, rules)
    elif evidence.unit_roundoff == 0.0:
        found = _by_mismatches(evidence, elements, rules)
    elif evidence.function is not None:
        found = _by_arbiter(evidence, rules)
    else:
        found = _by_noise(evidence, rules)
    if evidence.constant and found.verdict is Verdict.EQUIVALENT:
        return Judgement(
            Verdict.INCONCLUSIVE,
            "values",
            "the original's output is the same for every input that was tried, so "
            "comparing it shows nothing",
        )
    return found


def _product(shape: Sequence[int]) -> int:
    elements = 1
    for size in shape:
        elements *= size
    return elements


def _by_tolerance(metrics: Metrics, tolerance: Tolerance) -> Judgement:
    if metrics.envelope is None:
        least = float(metrics.mismatches > 0)
    else:
        least = metrics.envelope.least_atol(tolerance.rtol)
    passed = least <= tolerance.atol
    return Judgement(
        Verdict.EQUIVALENT if passed else Verdict.DIFFERENT,
        "tolerance",
        f"with rtol {tolerance.rtol:g}, the smallest atol that passes is {least:.3g}, and "
        f"{tolerance.atol:g} was given",
        tolerance.atol,
    )


def _by_mismatches(evidence: Evidence, elements: int, rules: Rules) -> Judgement:
    """Judge an output of integers, booleans or strings by how many elements flip."""
    seen = evidence.verdict_level.mismatches if evidence.verdict_level else 0
    noise = evidence.noise_mismatches
    if evidence.function is not None:
        seen = max(seen, evidence.function.mismatches)
        noise = max(noise, evidence.function.floor_mismatches)
    allowed = rules.runtime / 4 * noise + int(rules.mismatches * elements)
    return Judgement(
        Verdict.EQUIVALENT if seen <= allowed else Verdict.DIFFERENT,
        "values",
        f"{seen} of {elements} elements differ, and rounding can explain at most {allowed:g}",
        allowed,
    )


def _by_arbiter(evidence: Evidence, rules: Rules) -> Judgement:
    function = evidence.function
    if function is None:
        raise ValueError("the arbiter was not asked")
    return _another_function(evidence, function, rules) or _as_accurate(evidence, function, rules)


def _another_function(evidence: Evidence, function: Function, rules: Rules) -> Judgement | None:
    """Return what makes the rewritten model another function in float64, if anything does."""
    if function.mismatches > function.floor_mismatches:
        return Judgement(
            Verdict.DIFFERENT,
            "arbiter",
            f"in float64, {function.mismatches} elements are finite in only one of the models",
        )
    spare = max(rules.function_relative, function.resolution)
    allowed = Distance(
        rules.function * function.floor.rms + spare * evidence.scale.rms,
        rules.function * function.floor.max + spare * evidence.scale.max,
    )
    most = f", most in channel {function.channel}" if function.channel is not None else ""
    for quantity, deviation, limit in (
        ("RMS", function.deviation.rms, allowed.rms),
        ("maximum", function.deviation.max, allowed.max),
    ):
        if not deviation <= limit:
            return Judgement(
                Verdict.DIFFERENT,
                "arbiter",
                f"in float64 the outputs differ by {deviation:.3g} ({quantity}){most}, "
                f"and rounding the weights can explain at most {limit:.3g}",
                limit,
            )
    resolved = function.deviation.rms > spare * evidence.scale.rms
    if resolved and function.channel_ratio > rules.function:
        return Judgement(
            Verdict.DIFFERENT,
            "arbiter",
            f"in float64 the deviation of channel {function.channel} is "
            f"{function.channel_ratio:.3g} times what rounding the weights causes there, "
            f"and at most {rules.function} times is allowed",
            rules.function,
        )
    return None


def _as_accurate(evidence: Evidence, function: Function, rules: Rules) -> Judgement:
    """Judge whether the rewritten model, the same function, is as accurate in the runtime."""
    same = "in float64 the models differ by no more than rounding the weights can explain"
    if evidence.error_rewritten is None or evidence.error_original is None:
        if evidence.verdict_level is None or not evidence.alike:
            return Judgement(Verdict.EQUIVALENT, "arbiter", same)
        # Random numbers are others in float64, so the runtime is judged by itself.
        backed = replace(evidence, backed=relative(function.floor, evidence.scale))
        found = _by_noise(backed, rules)
        if found.verdict is Verdict.EQUIVALENT:
            return replace(found, basis="arbiter", reason=f"{same}, and {found.reason}")
        return found
    own = evidence.error_original.larger(evidence.error_original_deployed)
    own = own.larger(evidence.noise).larger(function.floor)
    ulps = rules.runtime_ulps * evidence.unit_roundoff
    most = explained(evidence, rules)
    allowed = Distance(
        min(rules.runtime * own.rms + ulps * evidence.scale.rms, most.rms),
        min(rules.runtime * own.max + ulps * evidence.scale.max, most.max),
    )
    for level, error in (
        ("with optimizations disabled", evidence.error_rewritten),
        ("at its default optimization level", evidence.error_deployed),
    ):
        if error is not None and not (error.rms <= allowed.rms and error.max <= allowed.max):
            return Judgement(
                Verdict.DIFFERENT,
                "arbiter",
                f"the models are the same function, but onnxruntime {level} has an error "
                f"of {error.max:.3g} on the rewritten model, and of {own.max:.3g} on the "
                "original",
                allowed.max,
            )
    return Judgement(
        Verdict.EQUIVALENT,
        "arbiter",
        f"{same}, and the error of onnxruntime is {evidence.error_rewritten.max:.3g} (on "
        f"the original: {evidence.error_original.max:.3g})",
        allowed.max,
    )


def _by_runtime(
    evidence: Evidence, departed: Sequence[Departure], elements: int, rules: Rules
) -> Judgement:
    """Judge by the runtime alone, at both levels, where it departs from float64."""
    most = explained(evidence, rules)
    # Where the levels of one model are further apart than rounding explains, it is no noise.
    noise = Distance(min(evidence.noise.rms, most.rms), min(evidence.noise.max, most.max))
    calm = replace(evidence, backed=None, function=None, noise=noise, noise_mismatches=0)
    each = [
        _by_mismatches(level, elements, rules)
        if evidence.unit_roundoff == 0.0
        else _by_noise(level, rules, most)
        for level in (
            replace(calm, verdict_level=metrics)
            for metrics in (evidence.verdict_level, evidence.deployed)
            if metrics is not None
        )
    ]
    found = next(j for verdict in _GRAVEST for j in each if j.verdict is verdict)
    another = evidence.function is not None and (
        evidence.function.mismatches > evidence.function.floor_mismatches
        if evidence.unit_roundoff == 0.0
        else _another_function(evidence, evidence.function, rules) is not None
    )
    if found.verdict is Verdict.EQUIVALENT and another:
        reason = (
            "onnxruntime gives the same result for both models and float64 does not, but "
            "onnxruntime departs from float64, so one of the two is wrong"
        )
        return Judgement(Verdict.INCONCLUSIVE, found.basis, reason, found.allowed)
    if evidence.unit_roundoff == 0.0:
        said = found.reason
    else:
        levels = (evidence.verdict_level, evidence.deployed)
        off = max(metrics.max_abs for metrics in levels if metrics is not None)
        # Figures that depend on which model is the original are for the table.
        within = "no more than" if found.verdict is Verdict.EQUIVALENT else "more than"
        said = (
            f"onnxruntime's results for the two models differ by {off:.3g}, {within} "
            "rounding can explain"
        )
    same = "another function" if another else "the same function"
    reason = f"{said}; onnxruntime departs from float64, in which the models are {same}"
    if found.basis == "noise floor" and not any(d.model == "original" for d in departed):
        # Of the original the two agree, so it is known what the rewritten one should give.
        return replace(found, basis="arbiter", reason=reason)
    return replace(found, reason=reason)


def _by_noise(evidence: Evidence, rules: Rules, allowance: Distance | None = None) -> Judgement:
    """Judge by the noise floor; `allowance` bounds what it may explain."""
    metrics = evidence.verdict_level
    if metrics is None:
        return Judgement(Verdict.INCONCLUSIVE, "noise floor", "neither model was run")
    deviation = Distance(metrics.rms, metrics.max_abs)
    if deviation.max == 0.0:
        return Judgement(Verdict.EQUIVALENT, "values", "all elements are equal", 0.0)
    noise, scale = evidence.noise, evidence.scale
    if evidence.backed is not None:
        # What half a unit in the last place of the weights does, any execution may do.
        floor = Distance(evidence.backed.rms * scale.rms, evidence.backed.max * scale.max)
        noise = noise.larger(floor)
    ulps = rules.noise_ulps * evidence.unit_roundoff
    bound = rules.noise_bound * evidence.unit_roundoff**0.5
    wanted = Distance(
        rules.noise * noise.rms + ulps * scale.rms, rules.noise * noise.max + ulps * scale.max
    )
    if allowance is not None:
        wanted = Distance(min(wanted.rms, allowance.rms), min(wanted.max, allowance.max))
    most = Distance(bound * scale.rms, bound * scale.max)
    explained = deviation.rms <= wanted.rms and deviation.max <= wanted.max
    small = deviation.rms <= most.rms and deviation.max <= most.max
    off = f"the outputs differ by {deviation.max:.3g}"
    own = f"the original's own rounding noise of {noise.max:.3g}"
    if evidence.backed is not None and (explained or small):
        reason = f"{off}; on other inputs float64 shows the same function"
        return Judgement(Verdict.EQUIVALENT, "noise floor", reason, max(wanted.max, most.max))
    if explained and small:
        reason = f"{off}, which {own} explains"
        return Judgement(Verdict.EQUIVALENT, "noise floor", reason, min(wanted.max, most.max))
    if explained:
        reason = f"{off}; {own} is so large that it could hide a fault"
        return Judgement(Verdict.INCONCLUSIVE, "noise floor", reason, most.max)
    if small:
        reason = f"{off}, which is more than {own} explains, but too little to be sure of a fault"
        return Judgement(Verdict.INCONCLUSIVE, "noise floor", reason, wanted.max)
    reason = f"{off}, which {own} does not explain"
    return Judgement(Verdict.DIFFERENT, "noise floor", reason, min(wanted.max, most.max))


_GRAVEST = (Verdict.DIFFERENT, Verdict.INCONCLUSIVE, Verdict.EQUIVALENT)


def relative(floor: Distance, scale: Distance) -> Distance:
    """Return a floor in parts of the output's scale."""
    return Distance(
        floor.rms / scale.rms if scale.rms > 0 else 0.0,
        floor.max / scale.max if scale.max > 0 else 0.0,
    )


def overall(judgements: Sequence[Judgement]) -> Verdict:
    """Return the verdict on the model: the worst of those on its outputs, never a pass of none."""
    verdicts = {judgement.verdict for judgement in judgements}
    if Verdict.DIFFERENT in verdicts:
        return Verdict.DIFFERENT
    if not verdicts or Verdict.INCONCLUSIVE in verdicts:
        return Verdict.INCONCLUSIVE
    return Verdict.EQUIVALENT

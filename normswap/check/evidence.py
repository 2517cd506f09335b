"""What was seen of one output on one set of inputs, boiled down to what a verdict needs.

The arrays are gone afterwards; these numbers go into the JSON report, and a verdict can be
reached again from them with another tolerance (`normswap.check.verdict`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from normswap.check.metrics import Metrics, measure
from normswap.dtypes import is_floating

if TYPE_CHECKING:
    from collections.abc import Sequence

# A channel's floor from few values is a poor estimate; it is drawn towards the pooled one, which
# counts as this many values.
_PRIOR = 16

_HARDLY = 0.25  # part of an output's elements that are numbers, where it is hardly defined

# Samples in another order are a legal execution if they move a result by no more than this many
# times what the other executions do, and units of roundoff: more is no rounding, but a model that
# tells the places of a batch apart. So a floor can't grow by more than that either.
_REORDERED = 8.0
_REORDERED_ULPS = 8.0


@dataclass(frozen=True, slots=True)
class Distance:
    """An error over all elements: its root mean square and its maximum."""

    rms: float
    max: float

    def larger(self, other: Distance | None) -> Distance:
        """Return the larger of two errors, number by number."""
        if other is None:
            return self
        return Distance(max(self.rms, other.rms), max(self.max, other.max))


ZERO = Distance(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Function:
    """How far the two models are apart as functions, both evaluated in float64.

    Attributes
    ----------
    deviation : Distance
        Rewritten against original.
    floor : Distance
        The weight-rounding floor: what the original moves by when each of its weights is
        perturbed within half a unit in the last place of its storage type. Rounding a folded
        weight once does no more than that.
    channel : int or None
        Of all channels (axis 1), the one with the largest deviation for its own floor.
    channel_ratio : float
        The RMS deviation of `channel` over its RMS floor, divided by what that ratio comes to by
        chance alone: it is the largest of many channels, each measured on few values.
    mismatches, floor_mismatches : int
        For types that are no floats: elements that differ, and that differ by the perturbation.
        For floats: elements that are finite in one model only, and in one perturbation only.
    resolution : float
        Part of the output's scale that the evaluation itself resolves.
    """

    deviation: Distance
    floor: Distance
    channel: int | None = None
    channel_ratio: float = 0.0
    mismatches: int = 0
    floor_mismatches: int = 0
    resolution: float = 1e-9


@dataclass(frozen=True, slots=True)
class Evidence:
    """One output, on one set of inputs.

    Attributes
    ----------
    output, dtype : str
    shape : tuple of int
    unit_roundoff : float
        Half a unit in the last place of the dtype, relative; 0 for types that are no floats.
    scale : Distance
        RMS and maximum of the original's output.
    verdict_level, deployed : Metrics or None
        Rewritten against original with the runtime's optimizations off, and at its default
        level. None where the runtime could not run the models.
    noise : Distance
        The noise floor: the largest difference among legal executions of the original.
    noise_mismatches, noise_disagreements : int
        The same in elements of types that are no floats, and in NaN and infinity.
    error_original, error_rewritten : Distance or None
        Each model's own error in the runtime with optimizations off, against itself in float64.
        Infinite where shapes differ.
    error_original_deployed, error_deployed : Distance or None
        The same at the runtime's default level.
    flips_original, flips_rewritten : int
        For types that are no floats: elements that the runtime gives otherwise than float64 does,
        at the worse level; all of them where shapes differ. For floats: elements that are finite
        in the runtime and not in float64.
    rounding : Distance or None
        What the models move by in float64 when every weight and every result is perturbed within
        half a unit in the last place. Measured where an error is large
        (`normswap.check.departure`).
    rounding_flips : int
        The same in elements, as in `flips_original`.
    function : Function or None
        What the float64 arbiter says; None where it was not asked or could not answer.
    alike : bool
        Both models draw the same random numbers in the runtime, which float64 does not.
    constant : bool
        The original's output did not vary at all, though it depends on the inputs.
    backed : Distance or None
        Given where the arbiter found this output to be the same function on other inputs: the
        weight-rounding floor there, in parts of the output's scale.
    fault : str or None
        What makes a comparison impossible: another shape, a missing element.
    """

    output: str
    dtype: str
    shape: tuple[int, ...]
    unit_roundoff: float = 0.0
    scale: Distance = ZERO
    verdict_level: Metrics | None = None
    deployed: Metrics | None = None
    noise: Distance = ZERO
    noise_mismatches: int = 0
    noise_disagreements: int = 0
    error_original: Distance | None = None
    error_rewritten: Distance | None = None
    error_original_deployed: Distance | None = None
    error_deployed: Distance | None = None
    flips_original: int = 0
    flips_rewritten: int = 0
    rounding: Distance | None = None
    rounding_flips: int = 0
    function: Function | None = None
    alike: bool = False
    constant: bool = False
    backed: Distance | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """One output in float64.

    Attributes
    ----------
    original, rewritten : numpy.ndarray
    perturbed : sequence of numpy.ndarray
        The original's, with its weights perturbed.
    resolution : float
        As in `Function`; larger where an operator was evaluated in less than float64.
    rounded : sequence of (numpy.ndarray, numpy.ndarray)
        A model's, and the same with its weights and results perturbed.
    """

    original: np.ndarray
    rewritten: np.ndarray
    perturbed: Sequence[np.ndarray]
    resolution: float = 1e-9
    rounded: Sequence[tuple[np.ndarray, np.ndarray]] = ()


def gather(
    output: str,
    original: Sequence[np.ndarray],
    rewritten: Sequence[np.ndarray],
    truth: Truth | None,
    *,
    comparable: bool = True,
    alike: bool = False,
    constant: bool = False,
    storage: np.dtype[Any] | None = None,
    reordered: np.ndarray | None = None,
) -> Evidence:
    """Boil the arrays of one output down.

    Parameters
    ----------
    output : str
    original : sequence of numpy.ndarray
        At optimization level ``disabled``, at ``default``, then any further legal executions.
        Empty where the runtime could not run the model.
    rewritten : sequence of numpy.ndarray
        At the first two of these levels; then, where it is the same model on another provider,
        further legal executions there, whose noise counts as well.
    truth : Truth or None
    comparable : bool
        Whether runtime and arbiter compute the same thing; they do not where a model draws
        random numbers.
    alike : bool
        Whether the two models, where they draw any, draw the same in the runtime.
    constant : bool
        Whether the original's output is the same whatever the input (`is_constant`).
    storage : numpy.dtype, optional
        Type of the output, where the runtime ran neither model.
    reordered : numpy.ndarray, optional
        The original's at level ``disabled`` for the samples in another order, each back in its
        place; counts as noise where it is rounding (`normswap.check.reorder`).
    """
    if not original:
        if truth is None:
            raise ValueError("there is nothing to gather")
        return _from_truth_alone(output, truth, storage or truth.original.dtype, constant=constant)
    fault = _fault(original[0], rewritten)
    if fault is not None:
        return Evidence(output, original[0].dtype.name, original[0].shape, fault=fault)
    evidence = replace(
        _compared(output, original, rewritten, reordered), alike=alike, constant=constant
    )
    if truth is None:
        return evidence
    evidence = replace(evidence, function=_function(truth))
    return _with_errors(evidence, original, rewritten, truth) if comparable else evidence


def _compared(
    output: str,
    original: Sequence[np.ndarray],
    rewritten: Sequence[np.ndarray],
    reordered: np.ndarray | None,
) -> Evidence:
    """Return what the runtime shows, see :func:`gather`."""
    first = original[0]
    shape, dtype = first.shape, first.dtype
    levels = [measure(a, b) for a, b in zip(original[:2], rewritten, strict=False)]
    executions = [measure(first, other) for other in original[1:] if other.shape == shape]
    if len(rewritten) > 2:
        executions += [measure(rewritten[0], other) for other in rewritten[1:]]
    noise = ZERO
    for execution in executions:
        noise = noise.larger(Distance(execution.rms, execution.max_abs))
    unit_roundoff = _unit_roundoff(dtype)
    scale = Distance(levels[0].reference_rms, levels[0].reference_max)
    if is_floating(dtype) and reordered is not None and reordered.shape == shape:
        noise = noise.larger(_of_reordering(first, reordered, noise, scale, unit_roundoff))
    return Evidence(
        output=output,
        dtype=dtype.name,
        shape=shape,
        unit_roundoff=unit_roundoff,
        scale=scale,
        verdict_level=levels[0],
        deployed=levels[1] if len(levels) > 1 else None,
        noise=noise,
        noise_mismatches=max((e.mismatches for e in executions), default=0),
        noise_disagreements=max(
            (e.nan_disagreements + e.inf_disagreements for e in executions), default=0
        ),
    )


def _with_errors(
    evidence: Evidence,
    original: Sequence[np.ndarray],
    rewritten: Sequence[np.ndarray],
    truth: Truth,
) -> Evidence:
    """Add how far the runtime is from float64 with each model."""
    evidence = replace(
        evidence,
        flips_original=max(_flips(truth.original, a) for a in original[:2]),
        flips_rewritten=max(_flips(truth.rewritten, b) for b in rewritten[:2]),
        rounding_flips=max((_flips(a, b) for a, b in truth.rounded), default=0),
    )
    if not is_floating(original[0].dtype):
        return evidence
    own = [_error(truth.original, a) for a in original[:2]]
    others = [_error(truth.rewritten, b) for b in rewritten[:2]]
    moved = [_error(a, b) for a, b in truth.rounded]
    return replace(
        evidence,
        error_original=own[0],
        error_original_deployed=own[-1],
        error_rewritten=others[0],
        error_deployed=others[-1],
        rounding=functools.reduce(Distance.larger, moved) if moved else None,
    )


def _unit_roundoff(dtype: np.dtype[Any]) -> float:
    return float(ml_dtypes.finfo(dtype).eps) / 2 if is_floating(dtype) else 0.0


def _of_reordering(
    first: np.ndarray, other: np.ndarray, noise: Distance, scale: Distance, unit_roundoff: float
) -> Distance | None:
    """Return what another order of the samples did to a result, None where it is no rounding."""
    found = measure(first, other)
    ulps = _REORDERED_ULPS * unit_roundoff
    is_rounding = (
        found.nan_disagreements + found.inf_disagreements == 0
        and found.rms <= _REORDERED * noise.rms + ulps * scale.rms
        and found.max_abs <= _REORDERED * noise.max + ulps * scale.max
    )
    return Distance(found.rms, found.max_abs) if is_rounding else None


def _from_truth_alone(
    output: str, truth: Truth, storage: np.dtype[Any], *, constant: bool
) -> Evidence:
    values = truth.original
    if values.shape != truth.rewritten.shape:
        fault = f"its shape is {list(truth.rewritten.shape)}, and {list(values.shape)} is expected"
        return Evidence(output, storage.name, tuple(values.shape), fault=fault)
    return Evidence(
        output,
        storage.name,
        tuple(values.shape),
        unit_roundoff=_unit_roundoff(storage),
        scale=_error(np.zeros_like(values), values) if is_floating(storage) else ZERO,
        constant=constant,
        function=_function(truth),
    )


def is_constant(values: Sequence[np.ndarray]) -> bool:
    """Whether an output had one value only, in all its elements and for all sets of inputs.

    A single element seen once is a value like any other, and no constant. Floats may differ by
    two units in the last place: the mean of a constant input is not exact.
    """
    flat = np.concatenate([np.asarray(value).ravel() for value in values])
    if flat.size < 2:
        return False
    if not is_floating(flat.dtype):
        return bool((flat == flat[0]).all())
    numbers = flat.astype(np.float64)
    if not np.isfinite(numbers).all():
        return False
    spread = float(numbers.max() - numbers.min())
    return spread <= 2 * float(ml_dtypes.finfo(flat.dtype).eps) * float(np.abs(numbers).max())


def is_bare(values: Sequence[np.ndarray]) -> bool:
    """Whether an output had little or nothing to compare, for all sets of inputs together.

    It was empty, the same throughout, or hardly ever a number.
    """
    total = sum(value.size for value in values)
    if all(is_floating(value.dtype) for value in values):
        finite = sum(np.count_nonzero(np.isfinite(v.astype(np.float64))) for v in values)
        if finite <= _HARDLY * total:
            return True
    return total == 0 or is_constant(values)


def _fault(first: np.ndarray, rewritten: Sequence[np.ndarray]) -> str | None:
    for other in rewritten:
        if other.shape != first.shape:
            return f"its shape is {list(other.shape)}, and {list(first.shape)} is expected"
        if other.dtype != first.dtype:
            return f"its type is {other.dtype.name}, and {first.dtype.name} is expected"
    return None


def _flips(truth: np.ndarray, value: np.ndarray) -> int:
    if truth.shape != value.shape:
        return truth.size
    apart = np.isfinite(value) & ~np.isfinite(truth) if is_floating(value.dtype) else truth != value
    return int(np.count_nonzero(apart))


def _error(truth: np.ndarray, value: np.ndarray) -> Distance:
    if truth.shape != value.shape:
        return Distance(np.inf, np.inf)
    a, b = truth.astype(np.float64), value.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.any():
        return ZERO
    error = np.abs(b[finite] - a[finite])
    return Distance(float(np.sqrt(np.mean(error**2))), float(error.max()))


def _function(truth: Truth) -> Function:
    a, b = truth.original, truth.rewritten
    if a.shape != b.shape:
        return Function(Distance(np.inf, np.inf), ZERO)
    if not is_floating(a.dtype):
        counts = [int(np.count_nonzero(a != p)) for p in truth.perturbed if p.shape == a.shape]
        return Function(
            ZERO,
            ZERO,
            mismatches=int(np.count_nonzero(a != b)),
            floor_mismatches=max(counts, default=0),
            resolution=truth.resolution,
        )
    deviation = _error(a, b)
    samples = [p for p in truth.perturbed if p.shape == a.shape and a.size]
    moved = [_difference(a, p) for p in samples]
    floor = Distance(
        float(np.sqrt(np.mean([np.mean(m**2) for m in moved]))) if moved else 0.0,
        float(max((np.abs(m).max(initial=0.0) for m in moved), default=0.0)),
    )
    channel, ratio = _worst_channel(_difference(a, b), moved, floor.rms)
    return Function(
        deviation,
        floor,
        channel,
        ratio,
        mismatches=_finite_in_one(a, b),
        floor_mismatches=max((_finite_in_one(a, p) for p in samples), default=0),
        resolution=truth.resolution,
    )


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    both = np.isfinite(a) & np.isfinite(b)
    return np.subtract(b, a, out=np.zeros_like(a), where=both)


def _finite_in_one(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.count_nonzero(np.isfinite(a) != np.isfinite(b)))


def _worst_channel(
    deviation: np.ndarray, moved: Sequence[np.ndarray], pooled: float
) -> tuple[int | None, float]:
    """Return the channel that deviates most for its floor, and by how many floors.

    A fault in one channel of an output whose other channels are larger by orders of magnitude
    is lost in an error over all elements, but not here. The RMS of n normal values exceeds its
    expectation by a factor of about ``1 + sqrt(2 ln(C) / n)`` in the worst of C channels; the
    ratio is taken to that.
    """
    if deviation.ndim < 2 or deviation.size == 0 or pooled == 0.0:
        return None, 0.0
    axes = tuple(axis for axis in range(deviation.ndim) if axis != 1)
    own = np.mean([np.mean(m**2, axis=axes) for m in moved], axis=0)
    values = len(moved) * deviation.size / deviation.shape[1]
    floor = np.sqrt((values * own + _PRIOR * pooled**2) / (values + _PRIOR))
    each = deviation.size / deviation.shape[1]
    luck = 1 + np.sqrt(2 * np.log(deviation.shape[1]) / each)
    ratio = np.sqrt(np.mean(deviation**2, axis=axes)) / (floor * luck)
    channel = int(ratio.argmax())
    return channel, float(ratio[channel])

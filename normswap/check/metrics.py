"""How far two outputs are apart: every number a person may ask for, from one pass in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from normswap.dtypes import is_floating

_QUANTILES = (0.5, 0.9, 0.99, 0.999)
_TOP = 5
_SCORES = 10_000  # more columns than this are not class scores
_ULP_FLOOR = 1e-3  # a unit in the last place means nothing for values this small beside the RMS
_DECADES = range(-16, 5)


@dataclass(frozen=True, slots=True)
class ErrorEnvelope:
    """The least tolerance that passes, for any choice of rtol.

    ``|b - a| <= atol + rtol * |a|`` for all elements is a statement about the upper convex hull
    of the points ``(|a|, |b - a|)`` alone; its few corners answer for any rtol, exactly, long
    after the arrays are gone.

    Attributes
    ----------
    corners : tuple of (float, float)
        ``(|a|, |b - a|)``.
    """

    corners: tuple[tuple[float, float], ...]

    def least_atol(self, rtol: float) -> float:
        """Return the least atol that passes with `rtol`."""
        return max([0.0, *(error - rtol * size for size, error in self.corners)])


@dataclass(frozen=True, slots=True)
class Metrics:
    """The distance between an output and its reference.

    Relative errors are relative to the reference's element; quantiles are at 50, 90, 99 and
    99.9 %. Fields that mean nothing for the output's type are None.

    Attributes
    ----------
    elements : int
    mismatches : int
        Elements that differ at all; NaN equals NaN.
    nan_disagreements, inf_disagreements : int
        Elements at which only one of the two is NaN, or infinite or of another sign.
    max_abs, max_rel, rms : float
        Over the elements at which both are finite.
    reference_rms, reference_max : float
    abs_quantiles, rel_quantiles : tuple of float
    cosine, snr_db : float or None
    ulp_quantiles : tuple of float or None
        In units of the last place of the output's dtype, over elements that are not tiny.
    top1_agreement, top5_agreement : float or None
        Fraction of rows whose best class, or set of five best, is the same.
    histogram : dict of str to int
        Count of absolute errors by decade; ``0`` for exactly none.
    worst : dict or None
        ``index``, ``original`` and ``rewritten`` of the element with the largest error.
    envelope : ErrorEnvelope or None
    """

    elements: int
    mismatches: int
    nan_disagreements: int = 0
    inf_disagreements: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    rms: float = 0.0
    reference_rms: float = 0.0
    reference_max: float = 0.0
    abs_quantiles: tuple[float, ...] = ()
    rel_quantiles: tuple[float, ...] = ()
    cosine: float | None = None
    snr_db: float | None = None
    ulp_quantiles: tuple[float, ...] | None = None
    top1_agreement: float | None = None
    top5_agreement: float | None = None
    histogram: dict[str, int] | None = None
    worst: dict[str, Any] | None = None
    envelope: ErrorEnvelope | None = None


def measure(reference: np.ndarray, other: np.ndarray) -> Metrics:
    """Measure how far `other` is from `reference`.

    Parameters
    ----------
    reference, other : numpy.ndarray
        Of one shape; of one dtype, or `reference` in float64.
    """
    if not is_floating(reference.dtype):
        return _measure_discrete(reference, other)
    a, b = reference.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    both_nan = np.isnan(a) & np.isnan(b)
    finite = np.isfinite(a) & np.isfinite(b)
    nan_apart = int(np.count_nonzero(np.isnan(a) != np.isnan(b)))
    infinite = ~finite & ~np.isnan(a) & ~np.isnan(b)
    inf_apart = int(np.count_nonzero(infinite & (a != b)))
    mismatches = int(np.count_nonzero(~both_nan & (a != b)))
    if not finite.any():
        return Metrics(a.size, mismatches, nan_apart, inf_apart)
    x, y = a[finite], b[finite]
    size, error = np.abs(x), np.abs(y - x)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        relative = np.where(error == 0, 0.0, error / size)
        rms, power = float(np.sqrt(np.mean(error**2))), float(np.sqrt(np.mean(x**2)))
    top1, top5 = _ranking(reference, other)
    return Metrics(
        elements=a.size,
        mismatches=mismatches,
        nan_disagreements=nan_apart,
        inf_disagreements=inf_apart,
        max_abs=float(error.max()),
        max_rel=float(relative.max()),
        rms=rms,
        reference_rms=power,
        reference_max=float(size.max()),
        abs_quantiles=_quantiles(error),
        rel_quantiles=_quantiles(relative),
        cosine=_cosine(x, y),
        snr_db=float(20 * np.log10(power / rms)) if rms > 0 and power > 0 else None,
        ulp_quantiles=_ulps(size, error, other.dtype, power),
        top1_agreement=top1,
        top5_agreement=top5,
        histogram=_histogram(error),
        worst=_worst(a, b, finite, reference.shape),
        envelope=_envelope(size, error),
    )


def _measure_discrete(reference: np.ndarray, other: np.ndarray) -> Metrics:
    apart = np.asarray(reference != other)
    where = np.flatnonzero(apart)
    worst = None
    if where.size:
        index = np.unravel_index(where[0], reference.shape)
        worst = {
            "index": [int(i) for i in index],
            "original": _plain(reference[index]),
            "rewritten": _plain(other[index]),
        }
    return Metrics(elements=reference.size, mismatches=int(where.size), worst=worst)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    """Return the quantiles, by the nearest element from above: no interpolation with infinity."""
    ranks = [min(int(np.ceil(q * values.size)), values.size) - 1 for q in _QUANTILES]
    ordered = np.partition(values, sorted(set(ranks)))
    return tuple(float(ordered[rank]) for rank in ranks)


def _cosine(x: np.ndarray, y: np.ndarray) -> float | None:
    scale = float(max(np.abs(x).max(), np.abs(y).max()))
    if scale == 0:
        return None
    x, y = x / scale, y / scale
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.clip(x @ y / norms, -1.0, 1.0)) if norms > 0 else None


def _ulps(
    size: np.ndarray, error: np.ndarray, dtype: np.dtype[Any], power: float
) -> tuple[float, ...] | None:
    """Return quantiles of the error in units of the last place, at the size of the reference.

    The unit of a value in ``[2**e, 2**(e+1))`` is ``eps * 2**e``.
    """
    counted = size > _ULP_FLOOR * power
    if not is_floating(dtype) or not counted.any():
        return None
    exponent = np.frexp(size[counted])[1] - 1
    unit = np.ldexp(float(ml_dtypes.finfo(dtype).eps), exponent)
    return _quantiles(error[counted] / unit)


def _ranking(reference: np.ndarray, other: np.ndarray) -> tuple[float | None, float | None]:
    """Return the agreement of the best, and of the set of five best, along the last axis."""
    if reference.ndim != 2 or not 2 <= reference.shape[1] <= _SCORES:
        return None, None
    a, b = reference.astype(np.float64), other.astype(np.float64)
    top1 = float(np.mean(a.argmax(axis=1) == b.argmax(axis=1)))
    if reference.shape[1] <= _TOP:
        return top1, None
    first = np.sort(np.argpartition(-a, _TOP, axis=1)[:, :_TOP], axis=1)
    second = np.sort(np.argpartition(-b, _TOP, axis=1)[:, :_TOP], axis=1)
    return top1, float(np.mean((first == second).all(axis=1)))


def _histogram(error: np.ndarray) -> dict[str, int]:
    counts = {"0": int(np.count_nonzero(error == 0))}
    present = error[error > 0]
    decades = np.clip(np.floor(np.log10(present)), _DECADES[0], _DECADES[-1]).astype(int)
    for decade, number in zip(*np.unique(decades, return_counts=True), strict=True):
        counts[f"1e{decade:+03d}"] = int(number)
    return counts


def _worst(
    a: np.ndarray, b: np.ndarray, finite: np.ndarray, shape: tuple[int, ...]
) -> dict[str, Any] | None:
    """Return the element that is furthest off; one that is not finite in one alone is the worst."""
    apart = ~finite & ~(np.isnan(a) & np.isnan(b)) & (a != b)
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(b - a), np.where(apart, np.inf, 0.0))
    position = int(error.argmax())
    if error[position] == 0:
        return None
    index = np.unravel_index(position, shape)
    return {
        "index": [int(i) for i in index],
        "original": float(a[position]),
        "rewritten": float(b[position]),
    }


def _envelope(size: np.ndarray, error: np.ndarray) -> ErrorEnvelope:
    """Return the upper convex hull of the points that a tolerance has to cover.

    Only points that no other exceeds in error at a smaller size can be corners: sorted by size
    from below, those are the ones that set a record. Andrew's monotone chain does the rest.
    """
    order = np.argsort(size, kind="stable")
    size, error = size[order], error[order]
    before = np.concatenate([[-1.0], np.maximum.accumulate(error)[:-1]])
    records = np.flatnonzero(error > before)
    hull: list[tuple[float, float]] = []
    for x, y in zip(size[records].tolist(), error[records].tolist(), strict=True):
        while len(hull) >= 2 and _turns_left(hull[-2], hull[-1], (x, y)):
            hull.pop()
        if hull and hull[-1][0] == x:
            hull.pop()
        hull.append((x, y))
    return ErrorEnvelope(tuple(hull))


def _turns_left(o: tuple[float, float], a: tuple[float, float], b: tuple[float, float]) -> bool:
    return (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]) >= 0

"""Outputs that are rounding around zero: what is left where large terms cancel.

The mean of what its mean was taken from is zero, and what a runtime gives for it is the rounding of
the terms. Beside so small a value every difference looks large. It is no fault, and no figure of it
means anything, so it is said.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from normswap.check.verdict import Verdict, departures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from normswap.check.evidence import Evidence
    from normswap.check.report import OutputReport

_PART = 0.25  # of an output's largest value, from which on rounding is what it is


def is_rounding(largest: float, rounding: float) -> bool:
    """Whether a tensor is nothing but rounding.

    Parameters
    ----------
    largest : float
        Its largest value.
    rounding : float
        What rounding does to it.
    """
    return 0 < largest < math.inf and rounding >= _PART * largest


def order_of(rounding: float, unit: float) -> str:
    """Say how large terms are of which rounding is so much, to a power of ten.

    Parameters
    ----------
    rounding : float
        Not zero.
    unit : float
        The distance from one to the next number of the type.
    """
    return f"{10.0 ** round(math.log10(rounding / unit)):g}"


def notes(outputs: Iterable[OutputReport]) -> tuple[str, ...]:
    """Return a sentence on every output that is rounding around zero."""
    found: dict[str, tuple[float, str]] = {}
    for report in outputs:
        rounding = _rounding(report.evidence)
        largest = report.evidence.scale.max
        equivalent = report.judgement.verdict is Verdict.EQUIVALENT
        if equivalent and rounding and is_rounding(largest, rounding):
            order = order_of(rounding, 2 * report.evidence.unit_roundoff)
            found[report.name] = max(found.get(report.name, (0.0, "")), (largest, order))
    return tuple(
        f"output {name!r} is only rounding error around zero: terms of about {order} "
        f"cancel in it, and its largest value is {largest:.1e}"
        for name, (largest, order) in found.items()
    )


def _rounding(evidence: Evidence) -> float | None:
    """Return what rounding is known to do to an output; None of one that has another fault."""
    if not evidence.unit_roundoff or departures(evidence):
        return None
    if evidence.error_original is not None:
        return evidence.error_original.max
    if evidence.backed is None or evidence.verdict_level is None:
        return None
    # They are one function, so all that they are apart is rounding.
    return max(evidence.noise.max, evidence.verdict_level.max_abs)

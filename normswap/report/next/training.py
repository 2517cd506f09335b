"""A training-mode export becomes an inference model by ``recalibrate --freeze``."""

from __future__ import annotations

from typing import Any

from normswap.graph.reasons import Reason
from normswap.plain import kind_of


def tip(report: Any, model: str) -> str | None:
    """Say so where there are nodes that it turns; not of those that only look so.

    Such as what standardizes a weight, or has no statistics of its own to go on with. To a swap
    they matter where it would have normalized by them first.
    """
    count = report.outlook.freezable
    if kind_of(report) == "swap":
        went = (swap.statistics for swap in report.plan.swaps)
        if not any(each is not None and each.reason is Reason.TRAINING_MODE for each in went):
            return None
    if not count:
        return None
    said = (
        f"{count} {'is' if count == 1 else 'are'} in training mode: `normswap recalibrate "
        f"--freeze {model}` makes it an inference model, with the statistics in the file"
    )
    return said + (
        "; until then, a swap normalizes with them first" if kind_of(report) == "swap" else ""
    )

"""A training-mode export becomes an inference model by ``recalibrate --freeze``."""

from __future__ import annotations

from typing import Any


def tip(report: Any, model: str) -> str | None:
    """Say so where there are nodes that it turns; not of those that only look so.

    Such as what standardizes a weight, or has no statistics of its own to go on with.
    """
    count = report.outlook.freezable
    if not count:
        return None
    return (
        f"{count} {'is' if count == 1 else 'are'} in training mode: `normswap recalibrate --freeze "
        f"{model}` makes an inference model of it, with the statistics that the file has"
    )

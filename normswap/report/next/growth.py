"""What ``--max-growth`` keeps folds with a larger limit."""

from __future__ import annotations

from typing import Any


def tip(report: Any, model: str) -> str | None:
    """Say how large the limit has to be."""
    count, growth = report.outlook.withheld, report.outlook.growth
    if not count:
        return None
    return (
        f"{count} kept because of --max-growth: `normswap fold {model} --max-growth "
        f"{growth:g}` folds {'it' if count == 1 else 'them'} too"
    )

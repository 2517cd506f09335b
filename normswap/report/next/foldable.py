"""What a fold removes, ``normswap fold`` removes."""

from __future__ import annotations

from typing import Any


def tip(report: Any, model: str) -> str | None:
    """Say so where there is something."""
    count = report.foldable
    if not count:
        return None
    return (
        f"`normswap fold {model}` removes {count} of the normalizations, and proves that the "
        "function stays the same"
    )

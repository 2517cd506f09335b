"""What ``--only-kept`` has left is what a fold removes."""

from __future__ import annotations

import shlex
from typing import Any

from normswap.graph.reasons import Reason


def tip(report: Any, model: str) -> str | None:
    """Say so of the model that was written; a dry run has written none."""
    count = sum(entry.reason is Reason.FOLDABLE for entry in report.plan.untouched)
    if not count or report.output is None or report.output.startswith("<"):
        return None
    return (
        f"`normswap fold {shlex.quote(report.output)}` removes the {count} foldable "
        "BatchNormalization that --only-kept left"
    )

"""Weights that are graph inputs too are constants by ``--assume-constant``."""

from __future__ import annotations

from typing import Any

from normswap.graph.reasons import Reason
from normswap.plain import kind_of

SHOWN = 3
"""Weights that are named."""


def tip(report: Any, model: str) -> str | None:
    """Say so where more is folded, or recalibrated, then."""
    if kind_of(report) == "recalibrate":
        count = sum(entry.reason is Reason.OVERRIDABLE for entry in report.untouched)
        if not count:
            return None
        return (
            f"{count} kept because the statistics are also graph inputs, so a caller "
            "could override them; if no caller does, add --assume-constant"
        )
    count = report.outlook.assumable
    if not count:
        return None
    tensors = (entry.tensor_of(Reason.OVERRIDABLE) for entry in report.plan.kept)
    found = list(dict.fromkeys(tensor for tensor in tensors if tensor is not None))
    names = ", ".join(found[:SHOWN]) + ", ..." * (len(found) > SHOWN)
    return (
        f"{count} kept because weights are also graph inputs, so a caller could override "
        f"them ({names}); if no caller does, `normswap fold {model} --assume-constant` "
        f"folds {'it' if count == 1 else 'them'}"
    )

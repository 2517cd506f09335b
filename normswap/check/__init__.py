"""The check: whether one model is the same function as another.

`check` answers with `Verdict.EQUIVALENT`, `Verdict.DIFFERENT` or `Verdict.INCONCLUSIVE`, and
with the evidence. It knows models by their paths alone: each runs in a child process of its own,
so that models over 2 GB, external data and a runtime that dies are all ordinary cases.

::

    signature ─┐
    dims ──────┤                ┌────── coverage, driving <──────┐
    semantics ─┼─> inputs ─> runner ─> worker (child process) ─> ort, arbiter
    roles ─────┘                │
                                └─> metrics ─> tolerance ─> verdict ─> CheckReport

The names below are imported on first use, because the child process imports this package too
and needs next to nothing of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normswap.check.options import CheckOptions, Depth, Tolerance
    from normswap.check.report import CheckReport
    from normswap.check.story import check, check_outputs
    from normswap.check.verdict import Verdict

__all__ = ["CheckOptions", "CheckReport", "Depth", "Tolerance", "Verdict", "check", "check_outputs"]

_HOME = {
    "CheckOptions": "options",
    "CheckReport": "report",
    "Depth": "options",
    "Tolerance": "options",
    "Verdict": "verdict",
    "check": "story",
    "check_outputs": "story",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

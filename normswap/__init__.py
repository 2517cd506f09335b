"""Rewrite the normalization layers of ONNX models, and prove that the rewrite is right.

The story of a fold is :func:`fold`; what it would do is :func:`plan_fold`. The parts that they are
made of are public too: :mod:`normswap.model` loads and saves, :mod:`normswap.folding` decides and
edits, :mod:`normswap.groupnorm` swaps, :mod:`normswap.check` compares.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normswap.folding.plan import Folded, Kept, Plan
    from normswap.graph.reasons import Reason
    from normswap.workflows.fold import FoldReport, fold, plan_fold

__version__ = "0.1.0"

__all__ = ["FoldReport", "Folded", "Kept", "Plan", "Reason", "fold", "plan_fold"]

_HOME = {
    "FoldReport": "workflows.fold",
    "Folded": "folding.plan",
    "Kept": "folding.plan",
    "Plan": "folding.plan",
    "Reason": "graph.reasons",
    "fold": "workflows.fold",
    "plan_fold": "workflows.fold",
}
"""Where each public name is. They are imported on first use: onnx takes its time."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

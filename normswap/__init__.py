"""Rewrite the normalization layers of ONNX models, and prove that the rewrite is right.

::

    fold                            folds BatchNormalization into the operators around it
    plan                            says what fold would do
    bn_to_gn, bn_to_ln, bn_to_in    replace it with group, layer or instance normalization
    recalibrate                     re-estimates its statistics on data
    unfold                          restores it where an exporter folded it
    check                           decides whether two models are the same function
    check_module                    decides whether a file is the torch module it was exported from
    verify                          verifies a certificate
    inspect                         describes a model
    lint                            finds problems in models
    diff                            lists what changed between two models

Each takes a model as a path, bytes, a stream or an object of onnx, onnx-graphsurgeon, onnx-ir or
torch; see their help, and docs/api.md. A rewrite is checked before it is saved or returned.

PYTEST_DONT_REWRITE: the plugin is of this package, and its other modules have no asserts of tests.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from normswap.version import __version__ as __version__

if TYPE_CHECKING:
    from normswap.check.options import CheckOptions, Depth, Tolerance
    from normswap.check.report import CheckReport
    from normswap.check.verdict import Verdict
    from normswap.errors import (
        DataError,
        ExitCode,
        InconclusiveError,
        ModelError,
        NormswapError,
        NotEquivalentError,
        RunError,
        RunTimeoutError,
        UnprovenError,
        UsageError,
    )
    from normswap.folding.plan import Folded, Kept, Plan
    from normswap.graph.reasons import Reason
    from normswap.groupnorm.options import SwapOptions
    from normswap.groupnorm.plan import SwapPlan
    from normswap.workflows.bn_to_gn import bn_to_gn, bn_to_in, bn_to_ln
    from normswap.workflows.check import check
    from normswap.workflows.check_module import check_module
    from normswap.workflows.diff import DiffReport, diff
    from normswap.workflows.fold import FoldReport, FoldResult, fold, plan
    from normswap.workflows.inspect import InspectReport, inspect
    from normswap.workflows.lint import LintReport, lint
    from normswap.workflows.recalibrate import (
        RecalibrateReport,
        RecalibrateResult,
        recalibrate,
    )
    from normswap.workflows.swap_report import SwapReport, SwapResult
    from normswap.workflows.unfold import UnfoldReport, UnfoldResult, unfold
    from normswap.workflows.verify import VerifyReport, verify

__all__ = [
    "CheckOptions",
    "CheckReport",
    "DataError",
    "Depth",
    "DiffReport",
    "ExitCode",
    "FoldReport",
    "FoldResult",
    "Folded",
    "InconclusiveError",
    "InspectReport",
    "Kept",
    "LintReport",
    "ModelError",
    "NormswapError",
    "NotEquivalentError",
    "Plan",
    "Reason",
    "RecalibrateReport",
    "RecalibrateResult",
    "RunError",
    "RunTimeoutError",
    "SwapOptions",
    "SwapPlan",
    "SwapReport",
    "SwapResult",
    "Tolerance",
    "UnfoldReport",
    "UnfoldResult",
    "UnprovenError",
    "UsageError",
    "Verdict",
    "VerifyReport",
    "bn_to_gn",
    "bn_to_in",
    "bn_to_ln",
    "check",
    "check_module",
    "diff",
    "fold",
    "inspect",
    "lint",
    "plan",
    "recalibrate",
    "unfold",
    "verify",
]

_HOME = {
    "check.options": ("CheckOptions", "Depth", "Tolerance"),
    "check.report": ("CheckReport",),
    "check.verdict": ("Verdict",),
    "errors": (
        "DataError",
        "ExitCode",
        "InconclusiveError",
        "ModelError",
        "NormswapError",
        "NotEquivalentError",
        "RunError",
        "RunTimeoutError",
        "UnprovenError",
        "UsageError",
    ),
    "folding.plan": ("Folded", "Kept", "Plan"),
    "graph.reasons": ("Reason",),
    "groupnorm.options": ("SwapOptions",),
    "groupnorm.plan": ("SwapPlan",),
    "workflows.bn_to_gn": ("bn_to_gn", "bn_to_in", "bn_to_ln"),
    "workflows.check": ("check",),
    "workflows.check_module": ("check_module",),
    "workflows.diff": ("DiffReport", "diff"),
    "workflows.fold": ("FoldReport", "FoldResult", "fold", "plan"),
    "workflows.inspect": ("InspectReport", "inspect"),
    "workflows.lint": ("LintReport", "lint"),
    "workflows.recalibrate": ("RecalibrateReport", "RecalibrateResult", "recalibrate"),
    "workflows.swap_report": ("SwapReport", "SwapResult"),
    "workflows.unfold": ("UnfoldReport", "UnfoldResult", "unfold"),
    "workflows.verify": ("VerifyReport", "verify"),
}
"""The public names by where they are. They are imported on first use: onnx takes its time."""


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Package(ModuleType):
    """A module whose functions are never the packages of their names, as ``check`` and ``lint``.

    Whoever imports :mod:`normswap.check` would put that in its place, as a package does with its
    parts. It is imported all the same, and ``from normswap.check import ...`` finds it.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name not in __all__ or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

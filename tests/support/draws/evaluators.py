"""The three evaluators that are compared: the arbiter, the constants, and onnx's reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from normswap.check.arbiter.evaluator import SETTINGS, Float64Evaluator, Settings
from normswap.check.arbiter.task import as_float64
from support.draws.case import Case


def arbiter(case: Case) -> list[Any]:
    """Return what the float64 arbiter makes of a case."""
    SETTINGS.set(Settings())
    feeds = {name: as_float64(value) for name, value in case.feeds().items()}
    return Float64Evaluator(case.model()).run(None, feeds)


def reference(case: Case) -> list[Any]:
    """Return what onnx's reference evaluator makes of a case."""
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):
        return ReferenceEvaluator(case.model()).run(None, case.feeds())

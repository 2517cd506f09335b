"""The three evaluators that are compared: the arbiter, the constants, and onnx's reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, numpy_helper

from normswap.proof.arbiter.evaluator import SETTINGS, Float64Evaluator, Settings
from normswap.proof.arbiter.task import as_float64
from normswap.semantics import constants

if TYPE_CHECKING:
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


def constant(case: Case) -> list[Any] | None:
    """Return what the folding makes of a case whose inputs are all constant."""
    attributes = {
        name: numpy_helper.to_array(value) if isinstance(value, TensorProto) else value
        for name, value in case.attributes.items()
        if value is not None
    }
    used = [True] * case.outputs if isinstance(case.outputs, int) else case.outputs
    results = constants.evaluate(
        case.op, case.domain, case.since, case.inputs, attributes, len(used)
    )
    assert results is not None, f"{case.op}-{case.since} is not evaluated"
    return [value for value, use in zip(results, used, strict=False) if use]

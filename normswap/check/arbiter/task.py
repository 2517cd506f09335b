"""The child's side of the arbiter."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from normswap.check.arbiter.evaluator import SETTINGS, EvaluationError, Float64Evaluator, Settings
from normswap.check.faults import Fault
from normswap.check.protocol import Stage, WorkerError
from normswap.check.randomness import pinned
from normswap.check.wire import Packer, Value, unpack_all
from normswap.dtypes import is_floating


def evaluate(request: dict[str, Any], folder: Path, stage: Stage) -> dict[str, Any]:
    """Evaluate one model in float64; the task ``arbiter`` of the worker.

    The request holds ``model``, ``feeds`` (descriptions of inputs, one a case), ``samples`` (how
    many times the weights are perturbed, beside the plain evaluation), ``faults`` (each planted
    in one more evaluation) and ``pin_random``.
    """
    path = request["model"]
    stage("reading it for the float64 arbiter")
    began = time.perf_counter()
    if request["pin_random"]:
        model = onnx.load_from_string(pinned(path))
    else:
        model = onnx.load(path, load_external_data=False)
    settings = Settings(folder=str(Path(path).parent))
    SETTINGS.set(settings)
    try:
        evaluator = Float64Evaluator(model)
    except Exception as error:
        raise WorkerError("arbiter", " ".join(str(error).split())[:500]) from error
    loaded = time.perf_counter()
    stage("evaluating it in float64")
    packer = Packer(folder, "truth")
    results = []
    seconds = []
    variants: list[tuple[int, Fault | None]] = [(k, None) for k in range(request["samples"] + 1)]
    variants += [(0, Fault(**fault)) for fault in request["faults"]]
    for settings.sample, settings.fault in variants:
        row = []
        for feeds in request["feeds"]:
            inputs = {k: as_float64(v) for k, v in unpack_all(feeds, folder).items()}
            started = time.perf_counter()
            try:
                values = evaluator.run(None, inputs)
            except EvaluationError as error:
                raise WorkerError("arbiter", str(error)[:500]) from error
            seconds.append(time.perf_counter() - started)
            row.append(packer.pack_all(dict(zip(evaluator.output_names, values, strict=True))))
        results.append(row)
    return {
        "results": results,
        "load_seconds": loaded - began,
        "seconds": seconds,
        "imprecise": sorted(settings.imprecise),
        "version": onnx.__version__,
    }


def as_float64(value: Value) -> Value:
    """Return a value with its floats, in whatever they are nested, in float64."""
    if isinstance(value, list):
        return [as_float64(item) for item in value]
    if isinstance(value, np.ndarray) and is_floating(value.dtype):
        return value.astype(np.float64)
    return value

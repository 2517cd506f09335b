"""onnxruntime as the benchmarks use it: no optimizations, or the ones that users run with."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def inputs(path: Path) -> dict[str, np.ndarray]:
    """Return one seeded sample; a symbolic dimension is one."""
    rng = np.random.default_rng(0)
    graph = onnx.load(path, load_external_data=False).graph
    shapes = {i.name: [d.dim_value or 1 for d in i.type.tensor_type.shape.dim] for i in graph.input}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def open_session(model: Path | bytes, level: ort.GraphOptimizationLevel) -> ort.InferenceSession:
    """Open `model` on the CPU; what the runtime refuses is a RuntimeError."""
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    try:
        return ort.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=["CPUExecutionProvider"],
        )
    except Exception as error:  # onnxruntime's exceptions have no public common base
        raise RuntimeError(str(error)) from error


def run_unoptimized(model: Path | bytes, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run `model` as it is written, without a single rewrite of onnxruntime's own."""
    session = open_session(model, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    names = [output.name for output in session.get_outputs()]
    try:
        values = session.run(names, dict(inputs))
    except Exception as error:  # as above
        raise RuntimeError(str(error)) from error
    return dict(zip(names, values, strict=True))


def latencies(
    models: Sequence[Path], inputs: Mapping[str, np.ndarray], *, seconds: float = 10
) -> list[float]:
    """Median times of a run in seconds, with onnxruntime's default optimizations.

    The models take turns, so that whatever else the machine does hits all of them alike.
    """
    sessions = [open_session(m, ort.GraphOptimizationLevel.ORT_ENABLE_ALL) for m in models]
    times: list[list[float]] = [[] for _ in models]
    for session in sessions:
        session.run(None, dict(inputs))
    end = time.perf_counter() + seconds
    while len(times[-1]) < 5 or time.perf_counter() < end:
        for session, own in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(None, dict(inputs))
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]

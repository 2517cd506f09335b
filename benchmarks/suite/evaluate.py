"""Run a model of the suite and compare what two models say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from benchmarks.runtime import run_unoptimized

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from benchmarks.suite.registry import Case

Arrays = dict[str, np.ndarray]


def evaluate(case: Case, path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """Run the model at `path` in what can run `case`.

    Raises
    ------
    RuntimeError
        The runtime refuses the model.
    """
    if case.runs_in == "onnxruntime":
        return run_unoptimized(path, feeds)
    model = onnx.load(path)
    names = [output.name for output in model.graph.output]
    try:
        values = ReferenceEvaluator(model).run(None, dict(feeds))
    except Exception as error:  # the evaluator raises whatever its operators raise
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    return dict(zip(names, values, strict=True))


def draws(feeds: Mapping[str, np.ndarray]) -> Iterator[Arrays]:
    """Yield the inputs as they are, and once more with all floats three times as wide and moved."""
    yield dict(feeds)
    rng = np.random.default_rng(7)
    yield {
        name: np.asarray(value * 3 + rng.normal(size=value.shape), value.dtype)
        if is_float(value)
        else value
        for name, value in feeds.items()
    }


def is_float(value: np.ndarray) -> bool:
    return value.dtype.kind == "f" or value.dtype.name == "bfloat16"


def deviation(expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray]) -> float:
    """Return the largest deviation, relative to the largest absolute value of its tensor.

    Values that are not finite must be the same in both; then they deviate by nothing.
    """
    worst = 0.0
    for name, reference in expected.items():
        other = actual[name]
        if other.shape != reference.shape or other.dtype != reference.dtype:
            return np.inf
        a, b = reference.astype(np.float64), other.astype(np.float64)
        finite = np.isfinite(a)
        if (
            not np.array_equal(a[~finite], b[~finite], equal_nan=True)
            or not np.isfinite(b[finite]).all()
        ):
            return np.inf
        if finite.any():
            size = np.abs(a[finite]).max()
            worst = max(worst, np.abs(a[finite] - b[finite]).max() / (size or 1.0))
    return worst


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of the main graph, of every body, and of every function that is called."""
    functions = {(f.domain, f.name): f for f in model.functions}

    def walk(sequence: list[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
        for node in sequence:
            yield node
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    yield from walk(graph.node)
            function = functions.get((node.domain, node.op_type))
            if function is not None:
                yield from walk(function.node)

    yield from walk(model.graph.node)


def count(model: onnx.ModelProto, op_types: tuple[str, ...]) -> int:
    """Count the nodes of the default domain that are one of `op_types`, once for every call."""
    return sum(n.op_type in op_types and n.domain in ("", "ai.onnx") for n in nodes(model))


def interface(model: onnx.ModelProto) -> list[tuple[str, bytes]]:
    """Return what a caller sees: inputs and outputs, in order, with their types."""
    values = [*model.graph.input, *model.graph.output]
    return [(v.name, v.type.SerializeToString(deterministic=True)) for v in values]

"""Run a model of the suite and compare what two models say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from benchmarks.runtime import run_unoptimized

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
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
    """Yield every node that computes something from the inputs.

    The main graph's, those of the bodies, and those of a function once for every call; nodes that
    only prepare constants are left out.
    """
    functions = {(f.domain, f.name): f for f in model.functions}

    def walk(sequence: Sequence[onnx.NodeProto], constants: set[str]) -> Iterator[onnx.NodeProto]:
        for node in sequence:
            graphs = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
            if all(name in constants for name in node.input if name) and not graphs:
                constants.update(node.output)
                continue
            yield node
            for graph in graphs:
                yield from walk(graph.node, constants | initializers(graph))
            function = functions.get((node.domain, node.op_type))
            if function is not None:
                arguments = zip(function.input, node.input, strict=False)
                yield from walk(function.node, {f for f, name in arguments if name in constants})

    yield from walk(model.graph.node, initializers(model.graph))


def initializers(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the constants of `graph`, without those a caller may override."""
    names = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return names - {value.name for value in graph.input}


def count(model: onnx.ModelProto, op_types: tuple[str, ...]) -> int:
    """Count the nodes of the default domain that are one of `op_types`."""
    return sum(n.op_type in op_types and n.domain in {"", "ai.onnx"} for n in nodes(model))


def interface(model: onnx.ModelProto) -> list[tuple[str, bytes]]:
    """Return what a caller sees: inputs and outputs, in order, with their types.

    Up to IR 3 every initializer is listed as an input, which makes none of it.
    """
    listed = {t.name for t in model.graph.initializer} if model.ir_version < 4 else set()
    values = [*(v for v in model.graph.input if v.name not in listed), *model.graph.output]
    return [(v.name, v.type.SerializeToString(deterministic=True)) for v in values]

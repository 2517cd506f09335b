"""normswap and its peers, each as a function from a model file to a model file."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def normswap(source: Path, target: Path) -> str:
    from normswap.workflows.fold import fold

    report = fold(source, target, check=None, overwrite=True).report
    return "; ".join(str(kept) for kept in report.plan.kept)


def onnxsim(source: Path, target: Path) -> str:
    import onnxsim

    model, _ = onnxsim.simplify(onnx.load(source))
    onnx.save(model, target)
    return ""


def onnxslim(source: Path, target: Path) -> str:
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(source)), target)
    return ""


def onnxoptimizer(source: Path, target: Path) -> str:
    import onnxoptimizer

    passes = onnxoptimizer.get_fuse_and_elimination_passes()
    onnx.save(onnxoptimizer.optimize(onnx.load(source), passes), target)
    return ""


def onnxscript(source: Path, target: Path) -> str:
    from onnxscript import optimizer, rewriter

    onnx.save(rewriter.rewrite(optimizer.optimize(onnx.load(source))), target)
    return ""


def onnxruntime(source: Path, target: Path) -> str:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return ""


TOOLS: dict[str, Callable[[Path, Path], str]] = {
    tool.__name__: tool
    for tool in (normswap, onnxscript, onnxruntime, onnxslim, onnxsim, onnxoptimizer)
}
"""In the order of the tables: each reads one file, writes another, and may tell about it."""


def transform(tool: str, source: Path, target: Path) -> str:
    """Apply `tool`; a function of its own so that a child process finds it by name.

    Raises
    ------
    FileNotFoundError
        The tool ended without writing anything.
    """
    told = TOOLS[tool](source, target)
    if not target.exists():
        raise FileNotFoundError(f"{tool} wrote nothing")
    return told


def version(tool: str) -> str | None:
    """Return the installed version of `tool`, None where there is none."""
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        if tool == "normswap" and importlib.util.find_spec("normswap.workflows.fold"):
            return importlib.import_module("normswap").__version__
        return None

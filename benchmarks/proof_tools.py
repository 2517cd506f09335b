"""What is proved of other tools' outputs.

    python -m benchmarks.proof_tools MODEL ... [--tools NAME ...] [--seconds 60]

Each tool rewrites each model in a child process; then the two are compared by proof alone
(`normswap check --check proof`), which says *proved*, *different* with a witness, or why it is
neither: such a pair a check would test on inputs. Tools that are not installed are left out. A line
a pair, and a table in the end.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from benchmarks import tools
from benchmarks.worker import Worker
from normswap.check.alone import concluded
from normswap.inputs.signature import drawing_alike, read_signature, structural_differences
from normswap.proof.budget import Budget
from normswap.proof.files import prove_files

if TYPE_CHECKING:
    from collections.abc import Callable

NEWEST = 22  # the opset that version_converter goes up to


def optimized(level: str, source: Path, target: Path) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def version_converter(source: Path, target: Path) -> None:
    import onnx.version_converter

    onnx.save(onnx.version_converter.convert_version(onnx.load(source), NEWEST), target)


def float16(source: Path, target: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


TOOLS: dict[str, Callable[[Path, Path], object]] = {
    "onnxruntime basic": functools.partial(optimized, "ORT_ENABLE_BASIC"),
    "onnxruntime extended": functools.partial(optimized, "ORT_ENABLE_EXTENDED"),
    "onnxslim": tools.onnxslim,
    "onnxsim": tools.onnxsim,
    "onnxscript": tools.onnxscript,
    "version_converter": version_converter,
    "float16": float16,
}


def rewrite(tool: str, source: Path, target: Path) -> None:
    """Apply a tool; a function of its own so that a child process finds it by name."""
    TOOLS[tool](source, target)


def verdict(source: Path, target: Path, seconds: float) -> tuple[str, str]:
    """Return what is known of a pair, and the reason where it isn't proved."""
    pair = drawing_alike(read_signature(source), read_signature(target))
    structure = structural_differences(*pair)
    if structure:
        return "different", structure[0]
    proof = prove_files(*pair, budget=Budget(seconds), alone=True)
    found, reasons = concluded(proof)
    if proof.is_whole:
        regions = f"{len(proof.regions)} regions, {proof.largest} nodes, {proof.floors:.2g}"
        return "proved", regions
    return ("different" if found.value == "different" else "open"), "; ".join(reasons)[:300]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    counts = {tool: Counter[str]() for tool in given.tools}
    with (
        Worker(rewrite, timeout=300) as rewritten,
        tempfile.TemporaryDirectory() as folder,
    ):
        for model in given.models:
            for tool in given.tools:
                target = Path(folder) / "made.onnx"
                outcome = rewritten(tool, model.resolve(), target)
                began = time.process_time()
                if outcome.ok:
                    said, why = verdict(model, target, given.seconds)
                else:
                    said, why = "not made", outcome.message
                spent = time.process_time() - began
                counts[tool][said] += 1
                print(f"{model.name}: {tool}: {said} ({spent:.1f} s): {why}", flush=True)
                for file in Path(folder).iterdir():
                    file.unlink()
    columns = ["proved", "open", "different", "not made"]
    print(f"\n| tool | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for tool, found in counts.items():
        print(f"| {tool} | {' | '.join(str(found[column]) for column in columns)} |")


if __name__ == "__main__":
    main()

"""BNs left in real architectures by normswap and its peers, and what that is worth at run time.

    python -m benchmarks.zoo --dir ZOO
    python -m benchmarks.zoo_table --dir ZOO --output benchmarks/RESULTS-FOLD.md

Every tool works in a child process; its result is compared with the original in onnxruntime with
all optimizations off, since those fold Conv + BN by themselves. Latencies are taken with all
optimizations on, since that is what users run.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort

from benchmarks.runtime import inputs, latencies, run_unoptimized
from benchmarks.suite.evaluate import count, deviation
from benchmarks.suite.registry import BATCH_NORM
from benchmarks.timm_zoo import TIMM
from benchmarks.tools import TOOLS, transform, version
from benchmarks.worker import Worker

TIMED = ("repvgg_a0", "mixnet_s", "fastvit_t8", "levit_128", "convmixer_768_32")


@dataclass(frozen=True, slots=True)
class Cell:
    """What a tool left of one architecture.

    Attributes
    ----------
    left : int
        BNs.
    error : float
        Largest deviation of an output, relative to its largest absolute value.
    seconds : float
        That the tool took, without its imports from the second model on.
    failure : str
        Empty, or why there is no result.
    """

    left: int = -1
    error: float = 0.0
    seconds: float = 0.0
    failure: str = ""

    def __str__(self) -> str:
        if self.failure:
            return f"**{self.failure}**"
        return f"{self.left} ({self.error:.0e}, {self.seconds:.1f} s)"


def compare(source: Path, target: Path) -> tuple[int, float]:
    """Return how many BNs are left, and the deviation."""
    feeds = inputs(source)
    error = deviation(run_unoptimized(source, feeds), run_unoptimized(target, feeds))
    return count(onnx.load(target), BATCH_NORM), error


def measure(work: Worker, court: Worker, tool: str, source: Path, target: Path) -> Cell:
    start = time.perf_counter()
    outcome = work(tool, source, target)
    seconds = time.perf_counter() - start
    if not outcome.ok:
        return Cell(failure="crash")
    verdict = court(source, target)
    if not verdict.ok:
        return Cell(failure="invalid")
    left, error = verdict.value
    return Cell(left, error, seconds)


def fold_table(sources: list[Path], tools: list[str], folder: Path) -> list[str]:
    """Return the Markdown lines; the folded models stay in `folder` as TOOL-NAME.onnx."""
    lines = [
        "| architecture | BNs | " + " | ".join(f"{tool} {version(tool)}" for tool in tools) + " |",
        "|---" * (2 + len(tools)) + "|",
    ]
    with Worker(transform, timeout=900) as work, Worker(compare, timeout=900) as court:
        for source in sources:
            print(source.stem, file=sys.stderr, flush=True)
            cells = [
                measure(work, court, tool, source, folder / f"{tool}-{source.name}")
                for tool in tools
            ]
            before = count(onnx.load(source), BATCH_NORM)
            lines.append(f"| {source.stem} | {before} | {' | '.join(map(str, cells))} |")
    return lines


def time_pair(source: Path, target: Path) -> tuple[float, float]:
    first, second = latencies([source, target], inputs(source))
    return first, second


def latency_table(sources: list[Path], folder: Path) -> list[str]:
    """Return the Markdown lines for the models that normswap folded."""
    lines = ["| architecture | before | after normswap | ratio |", "|---|---|---|---|"]
    with Worker(time_pair, timeout=900) as timer:
        for source in sources:
            target = folder / f"normswap-{source.name}"
            if source.stem not in TIMED or not target.exists():
                continue
            outcome = timer(source, target)
            if outcome.ok:
                before, after = outcome.value
                cells = f"{before * 1e3:.1f} ms | {after * 1e3:.1f} ms | {before / after:.2f}"
            else:
                cells = f"**{outcome.message}** | | "
            lines.append(f"| {source.stem} | {cells} |")
    return lines


def report(folds: list[str], times: list[str]) -> str:
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    text = f"""# BNs left in real architectures

Made by `python -m benchmarks.zoo_table` ({machine}, Python {platform.python_version()}, onnx
{onnx.__version__}, onnxruntime {ort.__version__}). Each cell: BNs left, largest deviation from the
original relative to the largest output (onnxruntime, all optimizations off), time of the tool.

"""
    text += "\n".join(folds) + "\n"
    if len(times) > 2:
        text += (
            "\n## Latency\n\nonnxruntime with its default optimizations, CPU, 2 threads, batch 1: "
            "medians of runs that take turns.\n\n" + "\n".join(times) + "\n"
        )
    return text


def main() -> int:
    installed = [tool for tool in TOOLS if version(tool)]
    parser = argparse.ArgumentParser(description="Fold real architectures with every tool.")
    parser.add_argument(
        "--dir", type=Path, required=True, help="the folder that benchmarks.zoo made"
    )
    parser.add_argument("--tool", action="append", choices=installed, help="default: all installed")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="default: all of the folder"
    )
    parser.add_argument("--output", type=Path, help="where the report goes; default: stdout")
    arguments = parser.parse_args()
    sources = [
        path
        for path in sorted(arguments.dir.glob("*.onnx"))
        if not arguments.only or path.stem in arguments.only
    ]
    if not sources:
        parser.error(f"no such model in {arguments.dir}")
    with tempfile.TemporaryDirectory(prefix="normswap-zoo-") as folder:
        folds = fold_table(sources, arguments.tool or installed, Path(folder))
        text = report(folds, latency_table(sources, Path(folder)))
    if arguments.output:
        present = arguments.output.read_text(encoding="utf-8") if arguments.output.exists() else ""
        text += "".join(present.partition(TIMM)[1:])
        arguments.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How long a checked fold takes, beside what it does and what other tools take.

    python -m benchmarks.check_time MODEL ... [--repeat 3] [--tools /venv/bin]

Whole processes, one after another and in turns, so that a busy machine is as unkind to each: the
fold with its check, the fold without, loading and running both models once in onnxruntime, and
onnxslim and onnxsim, where `--tools` has them. The least of all turns is told, in seconds, and
behind it the least time of the processor, by which a busy machine says more.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN_BOTH = """
import sys, numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.log_severity_level = 4
for path in sys.argv[1:]:
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {}
    for port in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in port.shape]
        feeds[port.name] = np.zeros(shape, np.float32)
    session.run(None, feeds)
"""


def seconds(command: list[str]) -> tuple[float, float]:
    """Return how long a process takes, and how much of a processor.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    began, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    return time.perf_counter() - began, spent


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tools", type=Path, help="the folder of onnxslim and onnxsim")
    given = parser.parse_args()
    columns = ["fold, checked", "fold, not checked", "run both", "onnxslim", "onnxsim"]
    print(f"| model | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for model in given.models:
        with tempfile.TemporaryDirectory() as name:
            folded, other = Path(name) / "folded.onnx", Path(name) / "other.onnx"
            fold = [sys.executable, "-m", "normswap", "fold", str(model), "-o", str(folded)]
            fold += ["--force", "-q"]
            commands = {
                columns[0]: fold,
                columns[1]: [*fold, "--no-check"],
                columns[2]: [sys.executable, "-c", RUN_BOTH, str(model), str(folded)],
            }
            for tool in columns[3:]:
                program = shutil.which(tool, path=None if given.tools is None else str(given.tools))
                if program is not None:
                    commands[tool] = [program, str(model), str(other)]
            taken: dict[str, list[tuple[float, float]]] = {column: [] for column in commands}
            for _ in range(given.repeat):
                for column, command in commands.items():
                    taken[column].append(seconds(command))
        least = {
            column: [min(times) for times in zip(*turns, strict=True)]
            for column, turns in taken.items()
        }
        cells = [f"{least[c][0]:.2f} ({least[c][1]:.2f})" if c in least else "" for c in columns]
        print(f"| {model.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

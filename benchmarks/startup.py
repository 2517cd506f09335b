"""What a person waits for that is not the work: imports, and the end of the process.

    python -m benchmarks.startup MODEL ... [--runs 15] [--write]

Whole processes in turns, paired: the help and the completion of a shell beside `import click`, and
`fold --no-check` of each model beside `onnx.load` and `onnx.save` of the same file. Of each the
median seconds and the least time of the processor, both as a multiple of its pair too, and the most
memory. A busy machine says more by the processor. Then where the fold of the first model spends
its time, part by part (`benchmarks.startup_parts`). `--write` writes RESULTS-STARTUP.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
LOAD_AND_SAVE = "import sys, onnx; onnx.save(onnx.load(sys.argv[1]), sys.argv[2])"


@dataclass
class Timed:
    """A command, and what it took: seconds, those of the processor, and bytes."""

    title: str
    command: list[str]
    beside: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    taken: list[tuple[float, float, int]] = field(default_factory=list)

    def run(self) -> None:
        """Run it once more.

        Raises
        ------
        subprocess.CalledProcessError
            It fails.
        """
        began = time.perf_counter()
        process = subprocess.Popen(
            self.command,
            env=os.environ | self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)  # it and those that it waited for
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, self.command)
        seconds = time.perf_counter() - began
        self.taken.append((seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))

    def figures(self) -> tuple[float, float, int]:
        """Return the median seconds, the least of the processor, and the most memory."""
        seconds, processor, memory = zip(*self.taken, strict=True)
        return statistics.median(seconds), min(processor), max(memory)


def commands(models: list[Path], folder: Path) -> list[Timed]:
    """Return all commands, each behind the one it is compared with."""
    python, normswap = [sys.executable, "-c"], [sys.executable, "-m", "normswap"]
    out = str(folder / "out.onnx")
    found = [
        Timed("`import click`", [*python, "import click"]),
        Timed("`normswap --help`", [*normswap, "--help"], "`import click`"),
        Timed("`normswap fold --help`", [*normswap, "fold", "--help"], "`import click`"),
    ]
    for typed in ("normswap f", "normswap fold --", "normswap bn-to-gn --"):
        asked = {"_NORMSWAP_COMPLETE": "bash_complete", "COMP_WORDS": typed}
        asked["COMP_CWORD"] = str(typed.count(" "))
        found.append(Timed(f"completion of `{typed}`", normswap, "`import click`", asked))
    for model in models:
        pair = f"`onnx.load`, `onnx.save`: {model.stem}"
        fold = [*normswap, "fold", str(model), "-o", out, "--force", "-q", "--no-check"]
        found += [
            Timed(pair, [*python, LOAD_AND_SAVE, str(model), out]),
            Timed(f"`normswap fold --no-check -q`: {model.stem}", fold, pair),
        ]
    return found


def table(timed: list[Timed]) -> str:
    """Return the table, in Markdown."""
    figures = {each.title: each.figures() for each in timed}
    lines = [
        "| process | seconds | of its pair | of the processor | of its pair | peak, MiB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for each in timed:
        seconds, processor, memory = figures[each.title]
        first = second = ""
        if each.beside:
            pair = figures[each.beside]
            first, second = f"{seconds / pair[0]:.2f}", f"{processor / pair[1]:.2f}"
        lines.append(
            f"| {each.title} | {seconds:.3f} | {first} | {processor:.3f} | {second} | "
            f"{memory // MIB} |"
        )
    return "\n".join(lines)


def parts(model: Path, out: Path, runs: int) -> str:
    """Return the least milliseconds of each part of a fold, as a table in Markdown."""
    command = [sys.executable, "-m", "benchmarks.startup_parts", str(model), str(out)]
    told = [
        json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        for _ in range(runs)
    ]
    least = {part: 1e3 * min(each[part] for each in told) for part in told[0]}
    rows = [f"| {part} | {value:.0f} |" for part, value in least.items()]
    head = [f"| `normswap fold --no-check -q`: {model.stem} | ms |", "|---|---:|"]
    return "\n".join([*head, *rows, f"| together | {sum(least.values()):.0f} |"])


def main() -> None:
    """Measure, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        timed = commands(given.models, Path(name))
        for turn in range(given.runs + 1):
            for each in timed:
                each.run()
                if not turn:
                    each.taken.clear()  # files come into the page cache, bytecode is compiled
        told = f"{table(timed)}\n\n{parts(given.models[0], Path(name) / 'out.onnx', given.runs)}"
    print(told)
    if given.write:
        loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
        text = (
            "# Start-up\n\n"
            "Made by `python -m benchmarks.startup MODEL ... --write`: whole processes in turns, "
            f"{given.runs} of each; the median seconds, and the least time of the processor. "
            "Below, the least of the main thread, part by part. "
            f"Python {platform.python_version()}, {os.cpu_count()} cores, at a load average of "
            f"{loads}.\n\n{told}\n"
        )
        (Path(__file__).parent / "RESULTS-STARTUP.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Run the suite against normswap and every installed peer.

    python -m benchmarks.suite.run [--tool NAME ...] [--only WORD] [--json FILE] [--show]

Tools and runtime work in child processes: a crash is a result like any other.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

from benchmarks.suite.evaluate import count, deviation, draws, evaluate, interface
from benchmarks.suite.registry import Case, Fold, Keep, all_cases
from benchmarks.tools import TOOLS, transform, version
from benchmarks.worker import Worker

BAD = ("wrong", "invalid", "crash")
SCALING = ("Mul", "Div")


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool made of a case.

    Attributes
    ----------
    verdict : str
        ``folded`` (exactly), ``left``; of a look-alike ``kept``, or ``beyond`` where fewer BNs are
        left than expected and the result is exact all the same; ``wrong``, ``invalid`` (refused by
        the checker or the runtime, or with another interface), ``crash``.
    before, after : int
        BNs of the original and of the result.
    error : float
        Largest deviation.
    told : str
        By the tool itself, or by whatever went wrong.
    """

    case: str
    tool: str
    expected: str
    verdict: str
    before: int = 0
    after: int = 0
    error: float = 0.0
    told: str = ""


def judge(name: str, tool: str, source: Path, target: Path) -> Result:
    """Compare what a tool wrote with the original."""
    case = next(c for c in all_cases() if c.name == name)
    original, result = onnx.load(source), onnx.load(target)
    before, after = count(original, case.residue), count(result, case.residue)

    def verdict(word: str, error: float = 0.0, told: str = "") -> Result:
        return Result(name, tool, kind(case), word, before, after, error, told)

    try:
        onnx.checker.check_model(result, full_check=case.full_check)
    except Exception as error:  # noqa: BLE001 - whatever the checker raises
        return verdict("invalid", told=str(error))
    if interface(original) != interface(result):
        return verdict("invalid", told="its inputs or outputs are not the original's")
    error = 0.0
    if case.runs_in != "nothing":
        try:
            for feeds in draws(case.feeds()):
                expected = evaluate(case, source, feeds)
                error = max(error, deviation(expected, evaluate(case, target, feeds)))
        except RuntimeError as refusal:
            return verdict("invalid", told=str(refusal))
    if error > case.tolerance:
        return verdict("wrong", error)

    scaled = count(result, SCALING) > count(original, SCALING)
    if isinstance(case.expect, Keep):
        if after >= case.expect.left:
            return verdict("kept", error)
        # Without a run there is no proof that the result is the original's.
        return verdict("wrong" if case.runs_in == "nothing" else "beyond", error)
    least = case.expect.left if isinstance(case.expect, Fold) else 0
    if after <= least and not scaled:
        return verdict("folded", error)
    return verdict("left", error, "written as another Mul" if after <= least else "")


def kind(case: Case) -> str:
    return type(case.expect).__name__.lower()


def save(case: Case, folder: Path) -> Path:
    """Write the model of `case`, its weights beside it where the case says so."""
    path = folder / case.name / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(
        case.build(), path, save_as_external_data=case.external, size_threshold=0, location="w.bin"
    )
    return path


def run(tool: str, cases: list[Case], sources: dict[str, Path]) -> list[Result]:
    """Return the results of one tool, in the order of the cases."""
    results = []
    with Worker(transform) as work, Worker(judge) as court:
        for case in cases:
            source = sources[case.name]
            target = source.parent / f"{tool}.onnx"
            outcome = work(tool, source, target)
            if not outcome.ok:
                results.append(Result(case.name, tool, kind(case), "crash", told=outcome.message))
                continue
            verdict = court(case.name, tool, source, target)
            if verdict.ok:
                results.append(verdict.value)
            else:
                told = f"the runtime died of the result: {verdict.message}"
                results.append(Result(case.name, tool, kind(case), "invalid", told=told))
            if sys.stderr.isatty():
                progress = f"\r{tool}: {len(results)} of {len(cases)}"
                print(progress, end="", file=sys.stderr, flush=True)
    return results


def table(results: list[Result]) -> str:
    """Return the sums of every tool as a Markdown table."""
    totals = collections.Counter(r.expected for r in results if r.tool == results[0].tool)
    lines = [
        f"| | exact folds of {totals['fold']} | look-alikes rightly kept of {totals['keep']} |"
        + "".join(f" {verdict} |" for verdict in BAD),
        "|---|---|---|---|---|---|",
    ]
    for tool in dict.fromkeys(r.tool for r in results):
        own = [r for r in results if r.tool == tool]
        folded = sum(r.expected == "fold" and r.verdict == "folded" for r in own)
        right = sum(r.expected == "keep" and r.verdict in {"kept", "beyond"} for r in own)
        bad = [sum(r.verdict == verdict for r in own) for verdict in BAD]
        label = " ".join(filter(None, (tool, version(tool))))
        lines.append(f"| {label} | {folded} | {right} | " + " | ".join(map(str, bad)) + " |")
    return "\n".join(lines)


def failed(result: Result) -> bool:
    return result.verdict in BAD or (result.expected == "fold" and result.verdict == "left")


def main() -> int:
    installed = [tool for tool in TOOLS if version(tool)]
    parser = argparse.ArgumentParser(description="Run the suite of small models.")
    parser.add_argument("--tool", action="append", choices=installed, help="default: all installed")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--json", type=Path, help="write every single result there")
    parser.add_argument(
        "--show", action="store_true", help="name every case that isn't as expected"
    )
    arguments = parser.parse_args()
    cases = [case for case in all_cases() if arguments.only in case.name]
    if not cases:
        parser.error(f"no case has {arguments.only!r} in its name")
    with tempfile.TemporaryDirectory(prefix="normswap-suite-") as folder:
        sources = {case.name: save(case, Path(folder)) for case in cases}
        results = [
            result for tool in arguments.tool or installed for result in run(tool, cases, sources)
        ]
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")
    if arguments.show:
        for r in filter(failed, results):
            print(f"{r.tool} {r.verdict}: {r.case} ({r.before} -> {r.after}) {r.told[:300]}")
    print(table(results))
    return int(any(map(failed, (r for r in results if r.tool == "normswap"))))


if __name__ == "__main__":
    sys.exit(main())

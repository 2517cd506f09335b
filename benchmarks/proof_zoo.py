"""Which real architectures are proved after a fold and a swap, as either exporter writes them.

    python -m benchmarks.proof_zoo --log LOG MODEL.onnx [MODEL.onnx ...]
    python -m benchmarks.proof_zoo --log LOG --table

The first folds each model (``fold``) and swaps it (``bn-to-gn --groups 32 --on-indivisible gcd``),
each with its check as users have it, and appends a line a model to the log; what is in it is not
done again. The second prints the table. Models are those of :mod:`benchmarks.zoo` and
:mod:`benchmarks.timm_zoo`: ``NAME.dynamo.onnx`` is of torch's newer exporter, others of the older.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import normswap

if TYPE_CHECKING:
    from collections.abc import Callable

    from normswap.check.report import CheckReport

TO_DO = {
    "fold": lambda path: normswap.fold(path).report,
    "swap": lambda path: normswap.bn_to_gn(path, groups=32, on_indivisible="gcd").report,
}


def outcome(path: Path, do: Callable[[Path], Any]) -> dict[str, Any]:
    """Return what a rewrite of a model and its check came to."""
    began = time.process_time()
    try:
        report = do(path)
    except normswap.NormswapError as error:
        checked = getattr(error, "report", None)
        said = "refused" if checked is None else str(checked.verdict.value)
        return {"said": said, "why": str(error)[:200]}
    found: dict[str, Any] = {"cpu": round(time.process_time() - began, 1)}
    checked = report.check
    if checked is None:
        return {**found, "said": "no BNs"}
    return {**found, **judged(checked)}


def judged(checked: CheckReport) -> dict[str, Any]:
    """Return what a check says."""
    if checked.is_proved:
        proof = checked.proof
        return {"said": "proved", "largest": proof.largest, "floors": round(proof.floors, 2)}
    proof = checked.proof
    why = "" if proof is None else proof.reason or "; ".join(o.reason for o in proof.outputs)
    return {"said": "tested", "why": why[:200]}


def table(lines: list[dict[str, Any]]) -> str:
    """Return the log as Markdown."""
    rows: dict[str, dict[str, str]] = {}
    for line in lines:
        for what in TO_DO:
            rows.setdefault(line["name"], {})[f"{line['exporter']} {what}"] = line[what]["said"]
    columns = [f"{exporter} {what}" for exporter in ("older", "newer") for what in TO_DO]
    text = [f"| architecture | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    text += [
        f"| {name} | {' | '.join(found.get(column, '') for column in columns)} |"
        for name, found in sorted(rows.items())
    ]
    counts = [
        f"{sum(found.get(c) == 'proved' for found in rows.values())} of "
        f"{sum(found.get(c, 'no BNs') != 'no BNs' for found in rows.values())}"
        for c in columns
    ]
    return "\n".join([*text, f"| *proved* | {' | '.join(counts)} |"])


def main() -> None:
    """Fold, swap and log, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    lines = []
    if given.log.exists():
        lines = [json.loads(line) for line in given.log.read_text().splitlines()]
    if given.table:
        print(table(lines))
        return
    warnings.simplefilter("ignore")
    done = {(line["name"], line["exporter"]) for line in lines}
    for path in given.models:
        name, _, kind = path.stem.partition(".")
        exporter = "newer" if kind == "dynamo" else "older"
        if (name, exporter) in done:
            continue
        line = {"name": name, "exporter": exporter}
        line |= {what: outcome(path, do) for what, do in TO_DO.items()}
        with given.log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()

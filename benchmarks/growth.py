"""How the time of a fold grows with the model: the exponent of each kind of graph.

    python -m benchmarks.growth
    python -m benchmarks.growth --sizes 500 1000 2000 --only sums heads

The graphs are those of tests/support/growing.py. Each is read, planned, edited and written in a
process of its own, which tells the seconds that it has worked (not those that it has waited); what
it takes to start is not counted. Of several runs the fastest counts. The exponent is the slope of a
straight line through the logarithms: 1 is in proportion, 2 the square.
"""

from __future__ import annotations

import argparse
import gc
import io
import itertools
import math
import multiprocessing
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

SIZES = (1000, 3000, 10_000)
BOUND = 1.1
STEPS = ("load", "plan", "apply", "save")
RESULTS = Path(__file__).with_name("RESULTS-GROWTH.md")


def measured(kind: str, size: int) -> list[float]:
    """Fold a graph once; return the seconds of each step."""
    from support.growing import KINDS

    from normswap.folding.apply import apply_plan
    from normswap.folding.planner import make_plan
    from normswap.model import load, write_to

    gc.set_threshold(100_000, 50, 50)  # as the command does
    serialized = KINDS[kind](size).SerializeToString()
    gc.collect()
    clock = [time.process_time()]
    model = load(serialized)
    clock.append(time.process_time())
    plan = make_plan(model)
    clock.append(time.process_time())
    apply_plan(plan, model)
    clock.append(time.process_time())
    write_to(model, io.BytesIO())
    clock.append(time.process_time())
    return [after - before for before, after in itertools.pairwise(clock)]


def fastest(kind: str, size: int, runs: int) -> list[float]:
    """Return the seconds of each step in the fastest of several runs."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        return min(pool.starmap(measured, [(kind, size)] * runs, chunksize=1), key=sum)


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Return the slope of the least-squares line through the logarithms."""
    xs, ys = [[math.log(value) for value in values] for values in (sizes, seconds)]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    over = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return over / sum((a - x) ** 2 for a in xs)


def table(sizes: list[int], found: dict[str, list[list[float]]]) -> str:
    """Return what was measured as Markdown."""
    head = [f"{size:,} layers" for size in sizes]
    parts = [f"{step} (ms a layer)" for step in STEPS]
    rows = [["kind", *head, "exponent", *parts], ["---"] * (len(sizes) + 2 + len(STEPS))]
    for kind, steps in found.items():
        totals = [sum(step) for step in steps]
        each = [f"{1000 * step / sizes[-1]:.3f}" for step in steps[-1]]
        slope = f"{exponent(sizes, totals):.2f}"
        rows.append([kind, *(f"{total:.2f} s" for total in totals), slope, *each])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    """Measure every kind, print and write the table; 1 where an exponent is beyond the bound."""
    from support.growing import KINDS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    given = parser.parse_args()
    found: dict[str, list[list[float]]] = {}
    for kind in given.only:
        found[kind] = [fastest(kind, size, given.runs) for size in given.sizes]
        totals = [sum(steps) for steps in found[kind]]
        print(f"{kind:20} exponent {exponent(given.sizes, totals):.2f}", totals, flush=True)
    if given.only == list(KINDS):
        python = f"Python {platform.python_version()}, {platform.machine()}"
        text = f"{RESULTS.read_text(encoding='utf-8').partition('<!-- table -->')[0]}"
        RESULTS.write_text(
            f"{text}<!-- table -->\n\n{python}; {given.runs} run(s), the fastest counts.\n\n"
            f"{table(given.sizes, found)}\n",
            encoding="utf-8",
        )
    slopes = [exponent(given.sizes, [sum(steps) for steps in found[kind]]) for kind in found]
    return int(max(slopes) > BOUND)


if __name__ == "__main__":
    sys.exit(main())

"""Fold random graphs by the thousand, and judge every one.

    python -m benchmarks.random_graphs --count 20000 --jobs 2 --seed 0
    python -m benchmarks.random_graphs --only 4711 --save .

The graphs are those of tests/support/rich_graphs.py, each drawn from its own seed; the judge is
tests/support/truth.py. Every fault is printed with the seed that makes it again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

NODES = 12
"""Steps by which a graph grows at most; each adds one to ten nodes."""


def drawn(seed: int):
    """Return the graph of a seed."""
    import numpy as np
    from support.random_graphs import Choices
    from support.rich_graphs import rich_graph

    rng = np.random.default_rng(seed)
    choose = Choices(lambda below: int(rng.integers(below)))
    return rich_graph(choose, nodes=1 + choose.integer(NODES), seed=seed)


def judged(seed: int):
    """Return a seed and what is found out about its graph."""
    from support.truth import Fault, Judgement, judge

    warnings.simplefilter("ignore")
    case = drawn(seed)
    try:
        return seed, case.words, judge(case)
    except Exception as error:  # noqa: BLE001 - whatever one graph does, the others go on
        detail = f"the judge: {type(error).__name__}: {error}"[:300]
        return seed, case.words, Judgement(Fault.CRASHED, detail)


def main() -> int:
    """Draw, fold, judge and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="that of the first graph")
    parser.add_argument("--only", type=int, help="one graph, by its seed")
    parser.add_argument("--save", type=Path, help="a folder for the graph of --only and its fold")
    given = parser.parse_args()
    if given.only is not None:
        return one(given.only, given.save)
    seeds = range(given.seed, given.seed + given.count)
    start, counts, notes = time.perf_counter(), Counter(), Counter()
    context = multiprocessing.get_context("spawn")
    with context.Pool(given.jobs) as pool:
        for seed, words, found in pool.imap_unordered(judged, seeds, chunksize=16):
            counts["graphs"] += 1
            if found.unmade:
                counts["unmade"] += 1
                notes[f"unmade: {found.unmade[-70:]}"] += 1
                continue
            counts["batchnorms"] += found.batchnorms
            counts["folded"] += found.folded
            counts["in float64 too"] += found.in_float64
            notes.update(found.notes)
            if found.fault is not None:
                counts[found.fault.value] += 1
                print(f"{seed}: {found.fault.value}: {found.detail} ({words})", flush=True)
    seconds = time.perf_counter() - start
    judgeable = counts["graphs"] - counts["unmade"]
    print(
        f"\n{judgeable} graphs judged of {counts['graphs']} drawn, {counts['in float64 too']} of"
        f" them in float64 too; {counts['folded']} of {counts['batchnorms']} BatchNormalizations"
        f" folded; {seconds:.0f} s, {counts['graphs'] / seconds:.1f} a second"
        f" ({given.jobs} of {os.cpu_count()} cores, Python {platform.python_version()})"
    )
    from support.truth import Fault

    for fault in Fault:
        print(f"{counts[fault.value]:6d} {fault.value}")
    for note, count in notes.most_common(12):
        print(f"  {count:5d} x {note}")
    return int(any(counts[fault.value] for fault in Fault))


def one(seed: int, folder: Path | None) -> int:
    """Judge the graph of one seed, and save it where that is asked for."""
    seed, words, found = judged(seed)
    print(f"{seed} ({words}):", found)
    if folder is not None:
        import onnx
        from support.truth import fold

        case = drawn(seed)
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(case.model, folder / f"{seed}.onnx")
        folder.joinpath(f"{seed}.folded.onnx").write_bytes(fold(case.model, case.options)[0])
    return int(found.fault is not None)


if __name__ == "__main__":
    raise SystemExit(main())

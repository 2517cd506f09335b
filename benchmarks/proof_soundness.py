"""Prove right rewrites of random graphs, and wrong ones, by the thousand.

    python -m benchmarks.proof_soundness --count 5000 --seed 0

Right ones are normswap's own folds; wrong ones have one edit more that changes the function, as
exact evaluation shows (tests/support/edits.py). A wrong one that is proved, and a right one that is
said to be another function, are printed with the seed that makes them again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

EDITS = 3


def main() -> int:
    """Draw, fold, edit, prove and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="graphs")
    parser.add_argument("--seed", type=int, default=0, help="that of the first graph")
    given = parser.parse_args()
    from proof.test_soundness import drawn, feeds, is_shown, is_valid
    from support.edits import changes, edited
    from support.folding import fold_model
    from support.proving import proof_of

    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    began = time.perf_counter()
    for seed in range(given.seed, given.seed + given.count):
        model, rng = drawn(seed)
        try:
            folded, _ = fold_model(model)
        except Exception as error:  # noqa: BLE001 - not what is looked for here
            counts[f"not folded: {type(error).__name__}"] += 1
            continue
        with tempfile.TemporaryDirectory() as folder:
            right = proof_of(model, folded, Path(folder))
            counts.update(f"right, {output.standing.value}" for output in right.outputs)
            if right.fault is not None or is_shown(right):
                counts["RIGHT, CALLED DIFFERENT"] += 1
                print(f"{seed}: right, called different")
            for number in range(EDITS):
                wrong, words = edited(folded, rng)
                if wrong is None or not is_valid(wrong):
                    continue
                answer = changes(folded, wrong, feeds(model))
                if answer not in {"yes", "faint"}:
                    continue
                proof = proof_of(model, wrong, Path(folder))
                proved = proof.is_whole
                counts["wrong, shown to be"] += answer == "yes" and is_shown(proof)
                told = {"yes": "wrong", "faint": "wrong by less than rounding"}[answer]
                counts[f"{told}, {'PROVED' if proved else 'not proved'}"] += 1
                if proved and answer == "yes":
                    print(f"{seed}, edit {number}: proved, though {words}", flush=True)
    for what, count in sorted(counts.items()):
        print(f"{count:7}  {what}")
    print(f"{time.perf_counter() - began:.0f} s")
    return int(bool(counts["wrong, PROVED"] or counts["RIGHT, CALLED DIFFERENT"]))


if __name__ == "__main__":
    sys.exit(main())

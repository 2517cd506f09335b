"""Check the suite itself: ``python -m benchmarks.suite.verify``.

Every model is built, passes the checker, has something to fold, and runs (but for those declared
not to) with finite results that the inputs matter to.
"""

from __future__ import annotations

import collections
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

from benchmarks.suite.evaluate import count, draws, evaluate, is_float
from benchmarks.suite.registry import Case, Fold, Policy, all_cases

NOT_FINITE = ("variance", "finite", "overflow")  # these are about values that aren't finite


def complaint(case: Case, folder: Path) -> str | None:
    """Return what is wrong with `case`, or None."""
    model = case.build()
    if model.SerializeToString() != case.build().SerializeToString():
        return "isn't the same at every call"
    onnx.checker.check_model(model, full_check=case.full_check)
    before = count(model, case.residue)
    least = case.expect.left + isinstance(case.expect, Fold) if case.expect != Policy() else 1
    if before < least:
        return f"has nothing to fold: {before} of {case.residue}"
    if case.runs_in == "nothing":
        return None
    path = folder / f"{case.name}.onnx"
    onnx.save(model, path)
    results = [evaluate(case, path, feeds) for feeds in draws(case.feeds())]
    for name, value in results[0].items():
        if any(word in case.name for word in NOT_FINITE):
            continue
        if not np.isfinite(value.astype(np.float64)).all():
            return f"{name} isn't finite"
        if value.size > 1 and np.ptp(value.astype(np.float64)) == 0:
            return f"{name} is constant"
    constant = ("all_scales_zero", "alpha_zero", "overflow")  # the inputs don't matter there
    if not any(map(is_float, case.feeds().values())) or any(w in case.name for w in constant):
        return None
    if all(np.array_equal(results[0][n], results[1][n], equal_nan=True) for n in results[0]):
        return "doesn't depend on its inputs"
    return None


def main() -> int:
    complaints = 0
    with tempfile.TemporaryDirectory() as folder:
        for case in all_cases():
            try:
                problem = complaint(case, Path(folder))
            except Exception as error:  # noqa: BLE001 - every failure of a case is reported
                problem = f"{type(error).__name__}: {error}"
            if problem:
                complaints += 1
                print(f"{case.name}: {problem[:300]}")
    kinds = collections.Counter(type(case.expect).__name__ for case in all_cases())
    print(f"{len(all_cases())} cases: {dict(kinds)}; {complaints} with a problem")
    return min(complaints, 1)


if __name__ == "__main__":
    sys.exit(main())

"""Where onnx's reference evaluator is wrong, and whether the arbiter's own meanings are right.

    python -m benchmarks.reference_errors [--draws 40] [--only Softmax ...] [--json FILE] [--write]

Every entry of `normswap.semantics` (an operator, at an opset at which it changed) is drawn so many
times, with attributes, ranks and types at random, and evaluated by onnxruntime with its optimizer
off, by the float64 arbiter, and by onnx's reference evaluator. The exit code is 1 if the arbiter is
wrong anywhere. `--write` writes docs/reference-evaluator.md from the examples that the tests hold
(tests/support/reference_errors.py).
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.draws.case import RefusedError, apart, drawn, size_of, truth  # noqa: E402
from support.draws.evaluators import arbiter, reference  # noqa: E402

from normswap.semantics.registry import meanings  # noqa: E402


def attempt(evaluator, case, right):
    """Say how an evaluator differs from what is right, or how it failed; None where it agrees."""
    try:
        return apart(evaluator(case), right, case)
    except Exception as error:  # noqa: BLE001 - an evaluator that raises is wrong too
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def survey(domain, name, since, draws):
    """Draw one entry, and count what is right."""
    found = {"drawn": 0, "refused": 0, "wrong": [], "reference": [], "smallest": None}
    for number in range(draws):
        case = drawn(domain, name, since, number)
        try:
            right = truth(case)
        except RefusedError:
            found["refused"] += 1
            continue
        found["drawn"] += 1
        if said := attempt(arbiter, case, right):
            found["wrong"].append((number, said))
        if said := attempt(reference, case, right):
            found["reference"].append((number, said))
    if found["reference"]:
        found["smallest"] = min(
            (size_of(drawn(domain, name, since, number)), number, said)
            for number, said in found["reference"]
        )
    return found


def main() -> int:
    """Draw, count and say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.write:
        from support.reference_errors import document

        (ROOT / "docs" / "reference-evaluator.md").write_text(document(), encoding="utf-8")
        return 0
    warnings.simplefilter("ignore")
    entries = {}
    for (domain, name), meaning in sorted(meanings().items()):
        if options.only and name not in options.only:
            continue
        for since in sorted(meaning.since):
            found = entries[f"{domain}:{name}:{since}"] = survey(domain, name, since, options.draws)
            if found["wrong"] or found["reference"] or not found["drawn"]:
                print(
                    f"{domain}:{name}-{since}  drawn {found['drawn']}, arbiter wrong "
                    f"{len(found['wrong'])}, reference wrong {len(found['reference'])}  "
                    f"{found['wrong'][:1] or ''} {found['smallest'] or ''}",
                    flush=True,
                )
    counted = list(entries.values())
    operators = {key.rsplit(":", 1)[0] for key in entries}
    off = {key.rsplit(":", 1)[0] for key, e in entries.items() if e["reference"]}
    print(
        f"{len(operators)} operators, {len(entries)} operators at opsets, "
        f"{sum(e['drawn'] for e in counted)} draws compared "
        f"({sum(e['refused'] for e in counted)} that the runtime refuses); arbiter wrong in "
        f"{sum(bool(e['wrong']) for e in counted)}, reference in "
        f"{sum(bool(e['reference']) for e in counted)} of {len(off)} operators"
    )
    if options.json:
        options.json.write_text(json.dumps(entries, indent=1), encoding="utf-8")
    return int(any(e["wrong"] for e in counted))


if __name__ == "__main__":
    raise SystemExit(main())

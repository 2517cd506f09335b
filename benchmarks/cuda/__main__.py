"""``python -m benchmarks.cuda``: see the package."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import benchmarks.cuda
from normswap.runtime.providers import environment
from normswap.runtime.survey import survey

ROOT = Path(__file__).parents[2]
STEPS = {
    "tests": "Tests",
    "checks": "Checks",
    "errors": "Forms of group normalization: errors",
    "forms": "Forms of group normalization: latencies",
    "folds": "What a fold gains",
}
RUN_ERROR = 4


def main() -> int:
    """Run the steps; see the package."""
    parser = argparse.ArgumentParser(
        description=benchmarks.cuda.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", choices=[[], *STEPS, "report"])
    parser.add_argument("--provider", default="cuda")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "cuda")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "RESULTS-CUDA.md")
    parser.add_argument("--networks", type=Path, help="a folder of models besides models/")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=4, help="tests and checks at a time")
    parser.add_argument("--quick", action="store_true", help="one small shape, one model")
    args = parser.parse_args()
    state = survey()
    status = state.status(args.provider)
    if not status.usable:
        print(f"{status.why}\n{status.tip or ''}".strip(), file=sys.stderr)
        return RUN_ERROR
    args.folder.mkdir(parents=True, exist_ok=True)
    steps = [step for step in STEPS if step in (args.steps or STEPS)]
    if len(steps) == 1:
        good = _run(steps[0], args)
    else:  # each in a process of its own, so that what one asks of the device is not the next one's
        options = [argument for argument in sys.argv[1:] if argument not in (*steps, "report")]
        command = [sys.executable, "-m", "benchmarks.cuda", *options]
        good = all([subprocess.call([*command, step], cwd=ROOT) == 0 for step in steps])  # noqa: C419 - every step has its turn
    if not args.steps or "report" in args.steps:
        from benchmarks.cuda.page import page

        args.output.write_text(
            page(args.folder, list(STEPS), state, args.provider), encoding="utf-8"
        )
        print(args.output)
    return 0 if good else 1


def _run(step: str, args: argparse.Namespace) -> bool:
    from benchmarks.cuda import checks, device_tests, errors, folds, forms
    from benchmarks.cuda.page import Section

    section = Section(args.folder, step, STEPS[step])
    own = [path for path in sorted((ROOT / "models").glob("*.onnx")) if ".folded" not in path.name]
    networks = sorted(args.networks.glob("*.onnx")) if args.networks else []
    own, networks = (own[:1], networks[:1]) if args.quick else (own, networks)
    match step:
        case "tests":
            return device_tests.run(section, args.provider, args.folder, args.jobs)
        case "checks":
            return checks.run(section, args.provider, [*own, *networks], args.folder, args.jobs)
    # From here on models run in this process, which has to ask for what children are given.
    if step == "folds":  # as deployed, so nothing is asked for
        return folds.run(section, args.provider, networks, args.folder, args.rounds)
    os.environ.update(environment({}))
    if step == "errors":
        return errors.run(section, args.provider)
    return forms.run(section, args.provider, args.rounds, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())

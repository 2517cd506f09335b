"""Everything that only a GPU can show, in one command: the tests, the checks and the forms.

    python -m benchmarks.cuda

writes ``benchmarks/RESULTS-CUDA.md``: what it ran on; the outcome of every test in ``tests/cuda``;
what a check makes of the models in ``models/``, on the device and across providers, with TF32 and
without; and the latency of the forms of group normalization, from which ``--form auto`` is chosen.
It ends with exit code 4 where the device can't be used, saying why, and with 1 where a test failed.

``--provider cpu`` runs the same on the CPU, which tests this program and says nothing about CUDA.

Latencies are those of a normalization between two depthwise convolutions, less the same network
without it. Inputs and outputs stay on the device. All networks of a row run in turn, round after
round; the figure is the smallest over the rounds, since what disturbs a run only makes it longer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import onnx
from onnx import TensorProto, helper

from normswap.check.options import CheckOptions
from normswap.errors import NormswapError, UsageError
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.surroundings import in_form, small_network
from normswap.runtime.providers import environment, full_name
from normswap.runtime.survey import Survey, survey
from normswap.workflows.check import check
from normswap.workflows.fold import fold

if TYPE_CHECKING:
    import onnxruntime as ort

ROOT = Path(__file__).parents[1]
OPSET = 21
EPSILON = 1e-5
RUN_ERROR = 4

# The shape of the input, and the number of groups.
SHAPES: list[tuple[tuple[int, ...], int]] = [
    ((1, 64, 112, 112), 32),
    ((1, 256, 56, 56), 32),
    ((1, 512, 28, 28), 32),
    ((1, 512, 7, 7), 32),
    ((32, 64, 56, 56), 32),
    ((32, 256, 28, 28), 32),
    ((32, 512, 7, 7), 32),
    ((32, 64, 56, 56), 1),
    ((32, 64, 56, 56), 64),
    ((2, 320, 64, 64), 32),
    ((2, 1280, 16, 16), 32),
]
QUICK = [((1, 16, 8, 8), 4)]
ACTIVATIONS = ("", "Relu", "SiLU")


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


# --- the tests ------------------------------------------------------


def run_tests(provider: str) -> tuple[str, bool]:
    """Run ``tests/cuda`` and return a table of the outcomes, and whether none failed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "junit.xml")
        command = [sys.executable, "-m", "pytest", "-q", "tests/cuda", f"--junitxml={path}"]
        variables = {**os.environ, "NORMSWAP_CUDA_TESTS_ON": provider}
        code = subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode
        if not path.exists():
            return f"pytest ended with exit code {code} and left no report.", False
        suite = ET.parse(path).getroot()  # noqa: S314 - pytest has just written it
    counts: dict[str, Counter[str]] = {}
    details = []
    for case in suite.iter("testcase"):
        outcome, why = _outcome(case)
        name = case.attrib["name"].partition("[")[0]
        counts.setdefault(name, Counter())[outcome] += 1
        if outcome == "failed":
            details.append(f"- `{case.attrib['name']}`: {why}")
    rows = [
        [name.removeprefix("test_").replace("_", " "), *(str(found[o]) for o in _OUTCOMES)]
        for name, found in counts.items()
    ]
    total = sum(counts.values(), Counter())
    rows.append(["**all**", *(f"**{total[outcome]}**" for outcome in _OUTCOMES)])
    shown = table(["test", *_OUTCOMES], rows)
    return "\n".join([shown, *(["", *details] if details else [])]), code == 0


_OUTCOMES = ("passed", "failed", "skipped")


def _outcome(case: ET.Element) -> tuple[str, str]:
    for tag, outcome in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        found = case.find(tag)
        if found is not None:
            return outcome, " ".join(found.attrib.get("message", "").split())[:300]
    return "passed", ""


# --- checks ------------------------------------------------------


def checks(provider: str, models: list[Path]) -> str:
    """Return a table of checks: folds, and each model against itself on the CPU."""
    tf32 = {"use_tf32": "1"}
    ways: list[tuple[str, bool, dict[str, Any]]] = [
        ("fold", True, {"provider": provider}),
        (f"cpu against {provider}", False, {"provider": "cpu", "against_provider": provider}),
    ]
    if provider != "cpu":
        ways += [
            (f"fold on {provider} with TF32", True, {"provider": provider, "options": tf32}),
            (
                f"cpu against {provider} with TF32",
                False,
                {"provider": "cpu", "against_provider": provider, "options": tf32},
            ),
        ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            folded = Path(folder, model.name)
            fold(model, folded, check=None)
            for what, is_fold, how in ways:
                given = {key: value for key, value in how.items() if key != "options"}
                options = CheckOptions(provider_options=how.get("options", {}), **given)
                other = folded if is_fold else model
                rows.append([model.stem, what, *_row(model, other, options)])
                print(*rows[-1], sep="  ", flush=True)
    header = ["model", "check", "verdict", "error / scale", "CPU nodes", "seconds"]
    return table(header, rows)


def _row(one: Path, other: Path, options: CheckOptions) -> list[str]:
    try:
        report = check(one, other, options)
    except NormswapError as error:
        return [f"error: {error}", "", "", ""]
    errors = [
        o.evidence.error_rewritten.max / o.evidence.scale.max
        for o in report.outputs
        if o.evidence.error_rewritten is not None and o.evidence.scale.max
    ]
    elsewhere = {node for run in report.runs for node in run.fallback or ()}
    told = f"{max(errors):.1e}" if errors else ""
    return [report.verdict.value, told, str(len(elsewhere)), f"{report.seconds:.1f}"]


# --- forms of group normalization ------------------------------------------------------


def network(
    shape: tuple[int, ...], data_type: int, activation: str, *, normalized: bool
) -> onnx.ModelProto:
    """Return depthwise convolution, BatchNormalization (or none), activation, convolution."""
    scale, bias = np.random.default_rng(0).normal(size=(2, shape[1]))
    return small_network(
        shape,
        (scale, bias) if normalized else None,
        data_type=data_type,
        opset=OPSET,
        epsilon=EPSILON,
        convolutions=True,
        activation=activation,
    )


class Bound:
    """A session whose input and output are on the device already."""

    def __init__(self, model: bytes, provider: str, x: np.ndarray) -> None:
        import onnxruntime as ort

        from normswap.runtime.sessions import choose_provider, open_session

        chosen = choose_provider(provider, {})
        kind = "cpu" if provider == "cpu" else "cuda"
        self.session: ort.InferenceSession = open_session(model, chosen, level="default", threads=0)
        self._binding = self.session.io_binding()
        self._binding.bind_ortvalue_input("input", ort.OrtValue.ortvalue_from_numpy(x, kind, 0))
        self._binding.bind_output("output", kind, 0)

    def run(self) -> float:
        """Return the seconds of one run, until the device is done."""
        began = time.perf_counter()
        self.session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return time.perf_counter() - began

    def result(self) -> np.ndarray:
        """Return what the last run gave."""
        result: np.ndarray = self._binding.copy_outputs_to_cpu()[0]
        return result


def latencies(
    shape: tuple[int, ...], groups: int, data_type: int, activation: str, provider: str, rounds: int
) -> tuple[dict[str, float], str]:
    """Return microseconds by form, net of the network around, and what ``auto`` is."""
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    x = np.random.default_rng(1).normal(size=shape).astype(dtype)
    model = network(shape, data_type, activation, normalized=True)
    bare = network(shape, data_type, activation, normalized=False)
    sessions = {
        "": Bound(bare.SerializeToString(), provider, x),
        "bn": Bound(model.SerializeToString(), provider, x),
    }
    auto = ""
    for form in (*FORMS, "auto"):
        try:
            made, auto = in_form(model, groups, form, provider)
        except UsageError:
            continue  # not on this provider
        if form != "auto":
            sessions[form] = Bound(made, provider, x)
    best = dict.fromkeys(sessions, float("inf"))
    for number in range(rounds + 5):
        for name, each in sessions.items():
            seconds = each.run()
            if number >= 5:  # the first ones warm up
                best[name] = min(best[name], seconds)
    _agree(sessions, dtype)
    around = best.pop("")
    return {name: (seconds - around) * 1e6 for name, seconds in best.items()}, auto


def _agree(sessions: dict[str, Bound], dtype: np.dtype[Any]) -> None:
    """See to it that all forms that are timed compute the same."""
    results = {n: s.result().astype(np.float64) for n, s in sessions.items() if n in FORMS}
    reference = results["primitive"]
    unit = 2e-2 if dtype == np.float16 else 1e-4
    for name, result in results.items():
        error = np.abs(result - reference).max() / np.abs(reference).max()
        assert error < unit, f"{name} is off by {error:.1e}"


def form_tables(provider: str, rounds: int, *, quick: bool) -> tuple[list[str], Counter[str]]:
    """Return a table for every type and activation, and how often each form is the fastest."""
    names = ["bn", *FORMS]
    parts = []
    wins: Counter[str] = Counter()
    for data_type, title in ((TensorProto.FLOAT, "float32"), (TensorProto.FLOAT16, "float16")):
        for activation in ACTIVATIONS:
            rows = []
            for shape, groups in QUICK if quick else SHAPES:
                found, auto = latencies(shape, groups, data_type, activation, provider, rounds)
                forms = {name: found[name] for name in FORMS if name in found}
                fastest = min(forms, key=lambda name: forms[name])
                wins[fastest] += 1
                cells = [f"{found[name]:.1f}" if name in found else "" for name in names]
                ratio = f"{forms[auto] / forms[fastest]:.2f}"
                label = f"{'x'.join(map(str, shape))}, G={groups}"
                rows.append([label, *cells, auto, fastest, ratio])
                print(title, activation, *rows[-1], sep="  ", flush=True)
            parts.append(f"### {title}, {activation or 'no activation'}")
            header = ["microseconds", *names, "auto is", "fastest", "auto / fastest"]
            parts.append(table(header, rows))
    return parts, wins


# --- the report ------------------------------------------------------


def _environment(state: Survey, provider: str) -> str:
    status = state.status(provider)
    packages = ", ".join(f"{name} {version}" for name, version in state.packages.items())
    built_for = f", built for CUDA {state.cuda}" if state.cuda else ""
    device = status.device or "the CPU"
    return (
        f"{full_name(provider)} on device {device}; {packages}{built_for}; onnx "
        f"{onnx.__version__}. Made by `python -m benchmarks.cuda --provider {provider}`; its "
        "docstring says how. TF32 is off but where it says otherwise."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--provider", default="cuda")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "RESULTS-CUDA.md")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="one small shape, one model")
    parser.add_argument("--no-tests", action="store_true", help="only the tables")
    args = parser.parse_args()
    state = survey()
    status = state.status(args.provider)
    if not status.usable:
        print(f"{status.why}\n{status.tip or ''}".strip(), file=sys.stderr)
        return RUN_ERROR
    models = sorted((ROOT / "models").glob("*.onnx"))
    models = [path for path in models if ".folded" not in path.name][: 1 if args.quick else None]
    parts = [f"# Measured on {args.provider}", _environment(state, args.provider)]
    passed = True
    if not args.no_tests:
        shown, passed = run_tests(args.provider)
        parts += ["## Tests", shown]
    parts += ["## Checks", checks(args.provider, models)]
    # From here on models run in this process, which has to ask for what children are given.
    os.environ.update(environment({}))
    tables, wins = form_tables(args.provider, args.rounds, quick=args.quick)
    counted = ", ".join(f"{form} in {count}" for form, count in wins.most_common())
    parts += [
        "## Forms of group normalization",
        f"The fastest form is {counted} of {sum(wins.values())} rows. Compare within a row only.",
        *tables,
    ]
    args.output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(args.output)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())

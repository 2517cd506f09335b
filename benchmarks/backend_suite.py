"""Is a verdict right? `check` on every model of onnx's own backend suite, beside onnxruntime.

    python -m benchmarks.backend_suite [--work DIR] [--jobs 2] [--sample 300] [--only TEXT ...]

Each model is checked against itself, and against itself at other opsets as
`onnx.version_converter` makes them: at those at which the meaning of its operator changed. What
onnxruntime computes for both on the data that the suite brings, its optimizer off, is the truth
that a verdict is held against:

- *false equivalent*: equivalent, and the runtime's results differ by more than rounding;
- *false different*: different, and they do not;
- *inconclusive* and *error*, each with its reason.

Every result is a line of WORK/backend-suite.jsonl, and what has one is not done again; the tables
go to benchmarks/RESULTS-BACKEND.md. `--sample` takes that many models, spread evenly. Checks run
in a process that is kept for many of them (a check starts four of its own otherwise); where it
dies, the check is done again as a user's is.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing.connection
import platform
import re
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import onnx
import onnx.version_converter
from onnx import numpy_helper

from normswap.check.observations import tensors_of
from normswap.check.options import CheckOptions
from normswap.check.runner import Execution, Runner
from normswap.dtypes import is_floating
from normswap.errors import NormswapError
from normswap.inputs.signature import read_signature
from normswap.runtime.child import receive_answer
from normswap.runtime.failures import failure
from normswap.runtime.messages import send
from normswap.runtime.worker import serve as work
from normswap.workflows.check import check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RESULTS = Path(__file__).parent / "RESULTS-BACKEND.md"

OLDEST = 7  # what the converter and the runtime both know
ROUNDING = 64.0  # units of roundoff, at the largest value, that two results may be apart
PATIENCE = 300.0  # seconds for one model
OTHER_OPSETS = 3  # conversions of one model


@dataclass(frozen=True)
class Test:
    """A model of the suite, and the data that comes with it."""

    name: str
    model: onnx.ModelProto
    data: tuple[tuple[Any, ...], ...]


def tests() -> Iterator[Test]:
    """Yield the suite's models of single nodes, and its simple ones."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [*load_model_tests(kind="node"), *load_model_tests(kind="simple")]
    seen: set[str] = set()
    for item in sorted(found, key=lambda item: str(item.name)):
        if item.name in seen:
            continue
        seen.add(item.name)
        if item.model is not None:
            yield Test(item.name, item.model, tuple(tuple(d[0]) for d in item.data_sets))
        elif item.model_dir is not None and (Path(item.model_dir) / "model.onnx").exists():
            folder = Path(item.model_dir)
            model = onnx.load(folder / "model.onnx")
            sets = sorted(folder.glob("test_data_set_*"))
            yield Test(item.name, model, tuple(_recorded(model, s) for s in sets))


def _recorded(model: onnx.ModelProto, folder: Path) -> tuple[Any, ...]:
    values = []
    for index, port in enumerate(model.graph.input):
        file = folder / f"input_{index}.pb"
        if not file.exists():
            break
        content = file.read_bytes()
        if port.type.HasField("sequence_type"):
            values.append(numpy_helper.to_list(onnx.SequenceProto.FromString(content)))
        else:
            values.append(numpy_helper.to_array(onnx.TensorProto.FromString(content)))
    return tuple(values)


def opsets(model: onnx.ModelProto) -> list[int]:
    """Return other opsets at which an operator of the model means, or may mean, something else."""
    here = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), None)
    if here is None:
        return []
    used = {node.op_type for node in model.graph.node if node.domain in {"", "ai.onnx"}}
    changes = sorted(_changes(used))
    before = [version - 1 for version in changes if OLDEST < version <= here]
    after = [version for version in changes if version > here]
    return [*reversed(before[-2:]), *after[-1:]][:OTHER_OPSETS]


def _changes(used: set[str]) -> set[int]:
    return {
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.domain == "" and schema.name in used and not schema.deprecated
    }


# ------------------------------------------------------------------------------------- one model


def here(task: str, request: Mapping[str, Any], *, label: str, **_limits: Any) -> dict[str, Any]:
    """Do in this process what a check does in a child; `normswap.runtime.child.run_task`."""
    began = time.perf_counter()
    source, target = io.BytesIO(), io.BytesIO()
    send(source, {**request, "task": task})
    source.seek(0)
    work(source, target)
    target.seek(0)
    answer = receive_answer(target, str)
    if "error" in answer:
        raise failure(answer["error"], label)
    return {**answer, "wall_seconds": time.perf_counter() - began}


def verdict(original: Path, other: Path) -> dict[str, Any]:
    """Return what `check` says of two models."""
    began = time.perf_counter()
    try:
        report = check(original, other, CheckOptions(timeout=PATIENCE))
    except NormswapError as error:
        found = {"verdict": "error", "reason": str(error), "code": int(error.exit_code)}
    except Exception as error:  # noqa: BLE001 - a bug of ours, to be listed as one
        found = {"verdict": "bug", "reason": f"{type(error).__name__}: {error}", "code": 4}
    else:
        found = {
            "verdict": report.verdict.value,
            "reason": report.reasons[0] if report.reasons else "",
            "notes": list(report.notes),
            "code": int(report.exit_code),
        }
    return {**found, "seconds": round(time.perf_counter() - began, 3)}


def distance(models: Sequence[Path], data: Sequence[tuple[Any, ...]]) -> float | str:
    """Return how far two models are apart in the runtime on recorded data.

    Returns
    -------
    float or str
        In units of roundoff at the largest value of an output; infinite for other shapes or
        types, and for elements that differ where there is no roundoff. Or why it isn't known.
    """
    options = CheckOptions(timeout=PATIENCE)
    given = []
    with tempfile.TemporaryDirectory(prefix="normswap-suite-") as folder:
        runner = Runner(Path(folder), options, lambda _: None)
        for path in models:
            signature = read_signature(path)
            names = [port.name for port in signature.inputs]
            feeds = [dict(zip(names, values, strict=False)) for values in data]
            try:
                results = runner.execute(signature, "original", [Execution("disabled")], feeds)
            except NormswapError as error:
                return str(error)
            given.append([tensors_of(values) for values in results.values[0]])
    return max((_apart(a, b) for a, b in zip(*given, strict=True)), default=0.0)


def _apart(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    if list(one) != list(other):
        return float("inf")
    largest = 0.0
    for name, a in one.items():
        b = other[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            return float("inf")
        if not is_floating(a.dtype):
            largest = max(largest, 0.0 if (a == b).all() else float("inf"))
            continue
        x, y = a.astype(np.float64), b.astype(np.float64)
        if not (np.isfinite(x) == np.isfinite(y)).all():
            return float("inf")
        finite = np.isfinite(x)
        if finite.any():
            import ml_dtypes

            unit = float(ml_dtypes.finfo(a.dtype).eps) / 2
            scale = max(float(np.abs(x[finite]).max()), 1e-30)
            largest = max(largest, float(np.abs(x - y)[finite].max()) / (unit * scale))
    return largest


def examine(test: Test, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the results of one model: against itself, and against itself at other opsets."""
    original = folder / "original.onnx"
    onnx.save(test.model, original)
    ops = sorted({node.op_type for node in test.model.graph.node})
    common = {"name": test.name, "ops": ops[:4]}
    yield {**common, "other": "itself", "apart": 0.0, **verdict(original, original)}
    for target in opsets(test.model):
        try:
            converted = onnx.version_converter.convert_version(test.model, target)
            onnx.checker.check_model(converted)
        except Exception:  # noqa: BLE001, S112 - the converter raises what it likes
            continue
        other = folder / f"opset{target}.onnx"
        onnx.save(converted, other)
        apart = distance([original, other], test.data)
        yield {**common, "other": f"opset {target}", "apart": apart, **verdict(original, other)}


# ------------------------------------------------------------------------------------- all models


def serve(pipe: Any, names: Sequence[str]) -> None:
    """Examine the tests that are asked for, in this process, until there are no more."""
    found = {test.name: test for test in tests() if test.name in set(names)}
    while (name := pipe.recv()) is not None:
        with (
            tempfile.TemporaryDirectory(prefix="normswap-suite-") as folder,
            mock.patch("normswap.check.runner.run_task", here),
        ):
            pipe.send(list(examine(found[name], Path(folder))))


def run_all(names: Sequence[str], log: Path, jobs: int) -> None:
    """Examine many tests in a few processes, and write a line for each result."""
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(names))
    alive: dict[Any, tuple[Any, str | None]] = {}

    def start() -> None:
        mine, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, list(names)), daemon=True)
        process.start()
        theirs.close()
        alive[mine] = (process, None)
        give(mine)

    def give(pipe: Any) -> None:
        name = waiting.pop() if waiting else None
        pipe.send(name)
        if name is None:
            alive.pop(pipe)[0].join()
        else:
            alive[pipe] = (alive[pipe][0], name)

    for _ in range(min(jobs, len(names))):
        start()
    while alive:
        for pipe in multiprocessing.connection.wait(list(alive), timeout=PATIENCE):
            process, name = alive[pipe]
            try:
                results = pipe.recv()
            except EOFError:
                process.join()
                del alive[pipe]
                results = alone(str(name))
                if waiting:
                    start()
                _write(log, results)
                continue
            _write(log, results)
            give(pipe)


def alone(name: str) -> list[dict[str, Any]]:
    """Examine a test as a user would, a process for every run of a model."""
    test = next(test for test in tests() if test.name == name)
    with tempfile.TemporaryDirectory(prefix="normswap-suite-") as folder:
        return list(examine(test, Path(folder)))


def _write(log: Path, results: Sequence[Mapping[str, Any]]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(result) + "\n" for result in results)


def read(log: Path) -> list[dict[str, Any]]:
    """Return the results so far, the latest of each model."""
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8").splitlines()
    return list({(r["name"], r["other"]): r for r in map(json.loads, lines)}.values())


# ------------------------------------------------------------------------------------- the tables


def judged(result: Mapping[str, Any]) -> str:
    """Return what a result is held against the runtime: right, or which sort of wrong."""
    apart, said = result["apart"], result["verdict"]
    if said in {"error", "inconclusive", "bug"}:
        return str(said)
    if isinstance(apart, str):
        return f"{said}, the runtime can't tell"
    differs = apart > ROUNDING
    if differs == (said == "different"):
        return "right"
    return f"false {said}"


_HEAD = """\
# The check on onnx's backend suite

`python -m benchmarks.backend_suite`: onnx {onnx}, onnxruntime {runtime}, Python {python}, depth \
quick. {models} of {total} models.

Each model against itself, and against itself as `onnx.version_converter` makes it at the opsets \
before and after a change of its operators' meaning. *Right*: equivalent where the runtime's \
results on the suite's own data are within {rounding:g} units of roundoff of each other, \
different where they are not.

| against | pairs | equivalent | different | inconclusive | error | false equivalent | \
false different | the runtime can't tell |
|---|---|---|---|---|---|---|---|---|"""


def report(results: Sequence[dict[str, Any]], total: int) -> str:
    """Return RESULTS-BACKEND.md."""
    lines = [_HEAD.format(**_environment(results, total), rounding=ROUNDING)]
    for title, chosen in (
        ("itself", [r for r in results if r["other"] == "itself"]),
        ("other opsets", [r for r in results if r["other"] != "itself"]),
    ):
        said = Counter(r["verdict"] for r in chosen)
        how = Counter(judged(r) for r in chosen)
        lines.append(
            f"| {title} | {len(chosen)} | {said['equivalent']} | {said['different']} | "
            f"{said['inconclusive']} | {said['error'] + said['bug']} | "
            f"{how['false equivalent']} | {how['false different']} | "
            f"{sum(count for told, count in how.items() if 'tell' in told)} |"
        )
    for kind in ("false equivalent", "false different", "bug", "inconclusive", "error"):
        chosen = [r for r in results if judged(r) == kind]
        if not chosen:
            continue
        lines += ["", f"## {kind.capitalize()}", ""]
        grouped: dict[str, list[str]] = {}
        for r in chosen:
            where = f"{r['name'].removeprefix('test_')}" + (
                "" if r["other"] == "itself" else f" ({r['other']})"
            )
            grouped.setdefault(_general(r["reason"]), []).append(where)
        for reason, names in sorted(grouped.items(), key=lambda item: -len(item[1])):
            shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            lines.append(f"- {len(names)}: {reason or 'no reason is given'} — {shown}")
    return "\n".join(lines) + "\n"


def _general(reason: str) -> str:
    """Return a reason without what is of one model only."""
    reason = re.sub(r"^output '[^']*': ", "", reason)
    reason = re.sub(r"\(original\.onnx\)|\(opset\d+\.onnx\)| \([a-z][^()]*seed \d+\)", "", reason)
    reason = re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "N", reason)
    reason = re.sub(r"/\S*/(?=[^/\s]+\.onnx)", "", reason)
    return " ".join(reason.split()).replace("|", "\\|")[:160]


def _environment(results: Sequence[Mapping[str, Any]], total: int) -> dict[str, Any]:
    import onnxruntime

    return {
        "onnx": onnx.__version__,
        "runtime": onnxruntime.__version__,
        "python": platform.python_version(),
        "models": len({result["name"] for result in results}),
        "total": total,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("backend-suite"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    parser.add_argument("--again", action="store_true", help="do those once more that aren't right")
    parser.add_argument("--report", action="store_true", help="only write what is there")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    given.work.mkdir(parents=True, exist_ok=True)
    log = given.work / "backend-suite.jsonl"
    names = [test.name for test in tests()]
    total = len(names)
    if given.only:
        names = [name for name in names if any(part in name for part in given.only)]
    if given.sample and given.sample < len(names):
        names = [names[i * len(names) // given.sample] for i in range(given.sample)]
    done = {r["name"] for r in read(log)}
    if given.again:
        done -= {r["name"] for r in read(log) if judged(r) != "right"}
    if not given.report:
        run_all([name for name in names if name not in done], log, given.jobs)
    text = report(read(log), total)
    given.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

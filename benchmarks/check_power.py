"""Does the check raise false alarms, and does it miss faults? Both measured, beside its peers.

    python benchmarks/check_power.py --zoo DIR [--work DIR] [--mutations 400] [--only NAME ...]

`--zoo` is a folder of ONNX models with BatchNormalizations in them. Each becomes a set of right
rewrites (itself, `normswap fold`, a plain Conv+BN fold, onnxruntime's own optimizer at two
levels, onnxsim, onnxslim where they are installed), in float32 and float16, on which every alarm
is false; and of wrong ones (a fold of a model in which one BatchNormalization was changed), of
which every one should be caught. Right ones are judged by the check as users run it, which proves
most of them; wrong ones by its tests alone, without a proof. The tolerances of Polygraphy, onnxsim
and onnxslim judge the same arrays: their rules are applied to the outputs that the check compared,
their programs are not run.

The tables go to benchmarks/RESULTS-CHECK.md; every line of evidence to WORK/check-power.jsonl.
"""

import argparse
import contextlib
import io
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from normswap.check.compare import compare
from normswap.check.observations import Observations, Tensors
from normswap.check.observe import observe_original, observe_rewritten
from normswap.check.options import CheckOptions
from normswap.check.report import OutputReport, reasons_of
from normswap.check.runner import Runner
from normswap.check.verdict import overall
from normswap.errors import NormswapError
from normswap.inputs.signature import read_signature, structural_differences
from normswap.workflows.check import check

RESULTS = Path(__file__).parent / "RESULTS-CHECK.md"

# rtol, atol and the runtime's optimization level, all by default, as their sources have them.
PEERS = {
    "Polygraphy 0.53": (1e-5, 1e-5, "default"),
    "onnxsim 0.8": (1e-4, 1e-5, "disabled"),
    "onnxslim 0.1": (1e-3, 1e-4, "default"),
}
# The rewrites that are tried in float16 too.
HALVED = {"normswap fold", "folded", "ORT basic", "onnxslim"}
# Small enough to be checked hundreds of times, and as different as can be.
MUTATED = (
    "mobilenetv3_small",
    "resnet18",
    "dcgan",
    "ghostnet_100",
    "regnetx_002",
    "pointnet",
    "shufflenet",
)


# ---------------------------------------------------------------------------- right rewrites


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold every BatchNormalization that follows a Conv it alone reads, in float64."""
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    weights = {t.name: t for t in graph.initializer}
    makers = {n.output[0]: n for n in graph.node}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    gone = []
    for bn in graph.node:
        conv = makers.get(bn.input[0]) if bn.op_type == "BatchNormalization" else None
        if conv is None or conv.op_type != "Conv" or readers[bn.input[0]] != 1:
            continue
        if conv.input[1] not in weights or readers[conv.input[1]] != 1:
            continue
        if any(name not in weights for name in bn.input[1:5]):
            continue
        scale, shift, mean, var = (_array(weights[n]) for n in bn.input[1:5])
        epsilon = next((a.f for a in bn.attribute if a.name == "epsilon"), 1e-5)
        s = scale / np.sqrt(var + epsilon)
        stored = numpy_helper.to_array(weights[conv.input[1]])
        w = _array(weights[conv.input[1]]) * s.reshape(-1, *(1,) * (stored.ndim - 1))
        b = _array(weights[conv.input[2]]) if len(conv.input) > 2 else np.zeros(len(s))
        names = (f"{bn.output[0]}.W", f"{bn.output[0]}.b")
        for name, value in zip(names, (w, (b - mean) * s + shift), strict=True):
            graph.initializer.append(numpy_helper.from_array(value.astype(stored.dtype), name))
        conv.input[:] = [conv.input[0], *names]
        conv.output[0] = bn.output[0]
        gone.append(bn)
    for bn in gone:
        graph.node.remove(bn)
    return folded


def _array(tensor: TensorProto) -> np.ndarray:
    return numpy_helper.to_array(tensor).astype(np.float64)


def optimized(path: Path, out: Path, level: str) -> None:
    """Let onnxruntime write what it would run, in a process of its own."""
    code = (
        "import sys, onnxruntime as o; s = o.SessionOptions(); s.log_severity_level = 4; "
        "s.graph_optimization_level = getattr(o.GraphOptimizationLevel, sys.argv[3]); "
        "s.optimized_model_filepath = sys.argv[2]; o.InferenceSession(sys.argv[1], s)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(path), str(out), level], check=True, capture_output=True
    )


def simplified(path: Path, out: Path) -> None:
    """Run onnxsim without its own check."""
    import onnxsim

    with contextlib.redirect_stdout(io.StringIO()):
        model, _ = onnxsim.simplify(onnx.load(path), check_n=0)
    onnx.save(model, out)


def slimmed(path: Path, out: Path) -> None:
    """Run onnxslim."""
    import onnxslim

    with contextlib.redirect_stdout(io.StringIO()):
        model = onnxslim.slim(onnx.load(path))
    onnx.save(model, out)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in float16, inputs and outputs included."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    keep = {
        n.input[i] for n in graph.node if n.op_type == "Resize" for i in (1, 2) if i < len(n.input)
    }
    for node in graph.node:  # what makes the scales of a Resize stays float32
        if keep & set(node.output):
            keep.update(node.input)
    for tensor in graph.initializer:
        if tensor.name not in keep:
            _halve(tensor)
    for node in graph.node:
        if keep & set(node.output):
            continue
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            if attribute.HasField("t"):
                _halve(attribute.t)
    return half


def _halve(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        value = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def rewritten_by_normswap(path: Path, out: Path) -> None:
    """Run ``normswap fold`` without its own check."""
    command = [sys.executable, "-m", "normswap", "fold", str(path), "-o", str(out)]
    subprocess.run([*command, "--no-check", "--force", "-q"], check=True, capture_output=True)


def rewrites(
    path: Path, work: Path, dtype: str, chosen: Sequence[str]
) -> Iterator[tuple[str, Path]]:
    """Yield every right rewrite of a model that can be made here; in float16 some of them."""
    if not chosen or "itself" in chosen:
        yield "itself", path  # no alarm, and no difference at all, is what it takes
    makers: dict[str, Callable[[Path, Path], None]] = {
        "normswap fold": rewritten_by_normswap,
        "folded": lambda a, b: onnx.save(fold(onnx.load(a)), b),
        "ORT basic": lambda a, b: optimized(a, b, "ORT_ENABLE_BASIC"),
        "ORT extended": lambda a, b: optimized(a, b, "ORT_ENABLE_EXTENDED"),
        "onnxsim": simplified,
        "onnxslim": slimmed,
    }
    for name, make in makers.items():
        if (dtype == "float16" and name not in HALVED) or (chosen and name not in chosen):
            continue
        out = work / f"{path.stem}.{name.replace(' ', '-')}.onnx"
        try:
            make(path, out)
        except Exception as error:  # noqa: BLE001 - a peer that fails is a line in the table
            print(f"{path.stem}: {name} was not made: {str(error)[:120]!r}", file=sys.stderr)
            continue
        yield name, out
        out.unlink()


# ---------------------------------------------------------------------------- wrong rewrites


def mutate(model: onnx.ModelProto, kind: str, rng: np.random.Generator) -> tuple[Any, str]:
    """Return a copy in which one BatchNormalization was changed, and what was done to it."""
    mutant = onnx.ModelProto()
    mutant.CopyFrom(model)
    weights = {t.name: t for t in mutant.graph.initializer}
    nodes = [
        n
        for n in mutant.graph.node
        if n.op_type == "BatchNormalization" and all(i in weights for i in n.input[1:5])
    ]
    bn = nodes[rng.integers(len(nodes))]
    arrays = [numpy_helper.to_array(weights[n]).copy() for n in bn.input[1:5]]
    channel = int(rng.integers(len(arrays[0])))
    if kind.startswith("scale"):
        arrays[0][channel] *= np.float32(kind.split()[1])
    elif kind == "shift lost":
        arrays[1][channel] = 0
    elif kind == "mean lost":
        arrays[2][channel] = 0
    elif kind == "channels swapped":
        other = (channel + 1) % len(arrays[0])
        for array in arrays:
            array[[channel, other]] = array[[other, channel]]
    elif kind == "epsilon":
        given = [a for a in bn.attribute if a.name == "epsilon"]
        right = given[0].f if given else 1e-5
        for attribute in given:
            bn.attribute.remove(attribute)
        wrong = 1e-3 if right < 1e-4 else 1e-5
        bn.attribute.append(onnx.helper.make_attribute("epsilon", wrong))
    for name, array in zip(bn.input[1:5], arrays, strict=True):
        fresh = f"{bn.output[0]}.{name}.mutant"  # parameters may be shared with another node
        mutant.graph.initializer.append(numpy_helper.from_array(array, fresh))
        bn.input[list(bn.input).index(name)] = fresh
    return mutant, f"{kind} in channel {channel} of {bn.name or bn.output[0]}"


TIMED = ("mobilenetv2", "resnet18", "resnet50", "inception_v3", "unet", "levit_128")
KINDS = (
    "scale 1.01",
    "scale 1.001",
    "shift lost",
    "mean lost",
    "channels swapped",
    "epsilon",
)


# ---------------------------------------------------------------------------- judging


class Baseline:
    """An original that many rewrites are compared with: it is run once."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.options = CheckOptions(timeout=900)
        self.signature = read_signature(path)
        self.runner = Runner(folder, self.options, lambda _: None)
        began = time.perf_counter()
        self.seen = observe_original(self.runner, self.signature, self.options)
        self.seconds = time.perf_counter() - began
        self.right: dict[int, Tensors] = {}

    def judge(self, path: Path, **facts: Any) -> dict[str, Any]:
        """Compare a rewrite, and apply the peers' rules to the same outputs."""
        line: dict[str, Any] = {**facts, "reason": "", "notes": []}
        began = time.perf_counter()
        rewritten = read_signature(path)
        structure = structural_differences(self.signature, rewritten)
        if structure:
            return {**line, "verdict": "different", "reason": "; ".join(structure)}
        try:
            seen = observe_rewritten(self.runner, rewritten, self.options, self.seen)
        except NormswapError as error:
            return {**line, "verdict": type(error).__name__, "reason": str(error)[:300]}
        outputs = compare(self.signature, seen, {})
        if facts.get("rewrite") == "folded":
            self.right = {index: truths.rewritten for index, truths in seen.truths.items()}
        line["seconds"] = self.seconds + time.perf_counter() - began
        verdict = overall([output.judgement for output in outputs])
        line |= {"verdict": verdict.value, "reason": "; ".join(reasons_of(outputs))[:300]}
        line["notes"] = [note for note in seen.notes if "arbiter" in note]
        line["runtime_seconds"] = sum(
            run.wall_seconds for run in seen.runs if run.engine == "onnxruntime"
        )
        if "fault" in facts:
            line["effect"], line["visible"] = self._effect(seen, outputs)
        return line | _numbers(outputs)

    def _effect(self, seen: Observations, outputs: Sequence[OutputReport]) -> tuple[float, bool]:
        """Return what the fault alone does to the outputs in float64, and if it exceeds noise."""
        noise = {(o.case, o.name): o.evidence.noise for o in outputs}
        largest, visible = 0.0, False
        for index, right in self.right.items():
            for name, value in right.items():
                apart = np.abs(seen.truths[index].rewritten[name] - value)
                rms, most = float(np.sqrt(np.mean(apart**2))), float(apart.max())
                floor = noise[seen.cases[index].name, name]
                largest = max(largest, most)
                visible |= rms > floor.rms or most > floor.max
        return largest, visible


def as_users(original: Path, rewritten: Path, **facts: Any) -> dict[str, Any]:
    """Check a rewrite as users do, and apply the peers' rules to the outputs that were compared."""
    line: dict[str, Any] = {**facts, "reason": ""}
    try:
        report = check(original, rewritten, CheckOptions(timeout=900))
    except NormswapError as error:
        return {**line, "verdict": type(error).__name__, "reason": str(error)[:300]}
    line |= {"verdict": report.verdict.value, "reason": "; ".join(report.reasons)[:300]}
    line |= {"seconds": report.seconds, "proved": report.is_proved}
    if report.proof is not None:
        line["floors"] = report.proof.floors
        line["open"] = "; ".join(f"{o.name}: {o.reason}" for o in report.proof.outputs if o.reason)
    return line | _numbers(report.outputs)


def _numbers(outputs: Sequence[OutputReport]) -> dict[str, Any]:
    functions, runtimes = [], []
    passed = dict.fromkeys(PEERS, True)
    for output in outputs:
        e, f = output.evidence, output.evidence.function
        if f is not None and f.floor.rms:
            functions.append(
                (f.deviation.rms / f.floor.rms, f.deviation.max / f.floor.max, f.channel_ratio)
            )
            if e.error_original is not None and e.error_rewritten is not None:
                own = e.error_original.larger(e.noise).larger(f.floor)
                runtimes.append((e.error_rewritten.rms / own.rms, e.error_rewritten.max / own.max))
        for peer, (rtol, atol, level) in PEERS.items():
            metrics = e.deployed if level == "default" else e.verdict_level
            if metrics is not None and metrics.envelope is not None:
                passed[peer] &= metrics.envelope.least_atol(rtol) <= atol
    return {
        "function_ratio": np.max(functions, axis=0).tolist() if functions else None,
        "runtime_ratio": np.max(runtimes, axis=0).tolist() if runtimes else None,
        "peers": passed,
    }


def false_alarms(zoo: list[Path], work: Path, log: Any, chosen: list[str]) -> None:
    """Check every right rewrite, or the `chosen` ones."""
    for path in zoo:
        for dtype in ("float32", "float16"):
            source = path
            if dtype == "float16":
                source = work / f"{path.stem}.float16.onnx"
                onnx.save(halved(onnx.load(path)), source)
            for name, rewritten in rewrites(source, work, dtype, chosen):
                log(as_users(source, rewritten, model=path.stem, dtype=dtype, rewrite=name))
            if source != path:
                source.unlink()


def faults(zoo: list[Path], work: Path, log: Any, number: int) -> None:
    """Check wrong rewrites: folds of mutants, of each kind in turn."""
    chosen = [p for p in zoo if p.stem in MUTATED] or zoo
    rng = np.random.default_rng(0)
    share = -(-number // len(chosen))
    for path in chosen:
        model = onnx.load(path)
        with tempfile.TemporaryDirectory() as folder:
            baseline = Baseline(path, Path(folder))
            out = work / "mutant.onnx"
            onnx.save(fold(model), out)
            log(baseline.judge(out, model=path.stem, dtype="float32", rewrite="folded"))
            for index in range(share):
                kind = KINDS[index % len(KINDS)]
                mutant, what = mutate(model, kind, rng)
                onnx.save(fold(mutant), out)
                log(baseline.judge(out, model=path.stem, fault=kind, what=what))


def timing(zoo: list[Path], work: Path, log: Any) -> None:
    """Time the default check beside loading and running both models once."""
    code = (
        "import sys, time, numpy as np; t = time.perf_counter(); import onnxruntime as o\n"
        "for p in sys.argv[1:]:\n"
        "    s = o.InferenceSession(p, providers=['CPUExecutionProvider']); i = s.get_inputs()[0]\n"
        "    x = [d if isinstance(d, int) else 1 for d in i.shape]\n"
        "    s.run(None, {i.name: np.zeros(x, np.float32)})\n"
        "print(time.perf_counter() - t)"
    )
    for path in [p for p in zoo if p.stem in TIMED]:
        out = work / f"{path.stem}.timed.onnx"
        onnx.save(fold(onnx.load(path)), out)
        both, whole, peaks = [], [], []
        for _ in range(3):
            command = [sys.executable, "-c", code, str(path), str(out)]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            both.append(float(run.stdout))
            report = check(path, out)
            whole.append(report.seconds)
            peaks.append(max(r.peak_memory or 0 for r in report.runs))
        log(
            {
                "model": path.stem,
                "timing": True,
                "verdict": report.verdict.value,
                "reason": "",
                "once": float(np.median(both)),
                "check": float(np.median(whole)),
                "peak": max(peaks),
            }
        )
        out.unlink()


# ---------------------------------------------------------------------------- tables


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def document(lines: list[dict[str, Any]], note: str) -> str:
    """Return the results as Markdown, from the lines that were logged."""
    right = [line for line in lines if "rewrite" in line]
    wrong = [line for line in lines if "fault" in line]
    timed = [line for line in lines if "timing" in line]
    versions = f"{platform.system()} {platform.machine()}, onnx {onnx.__version__}"
    made = "Made by `python benchmarks/check_power.py --zoo DIR`"
    plain = "No option was set: depth quick, no tolerance."
    parts = [
        "# The check, measured\n",
        f"{made}. {versions}, NumPy {np.__version__}. {plain} {note}\n",
    ]
    if right:
        parts += [_false_alarm_part(right)]
    if wrong:
        parts += [_fault_part(wrong)]
    if timed:
        rows = [
            (t["model"], f"{t['once']:.2f}", f"{t['check']:.2f}", t["peak"] >> 20) for t in timed
        ]
        head = ("model", "load and run both once, s", "check, s", "largest peak of a child, MiB")
        parts += ["## Time\n\nMedians of three.\n", table(head, rows), ""]
    return "\n".join(parts)


def _false_alarm_part(right: list[dict[str, Any]]) -> str:
    names = sorted({r["rewrite"] for r in right})
    counts: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in right:
        counts[line["dtype"], line["rewrite"]].append(line)
    rows = []
    for dtype in ("float32", "float16"):
        for name in names:
            group = counts[dtype, name]
            if not group:
                continue
            alarms = [g for g in group if g["verdict"] != "equivalent"]
            proved = [g for g in group if g.get("proved")]
            floors = max((g["floors"] for g in proved), default=0)
            peers = [sum(not g["peers"][peer] for g in group if "peers" in g) for peer in PEERS]
            rows.append(
                (dtype, name, len(group), len(alarms), len(proved), f"{floors:.2f}", *peers)
            )
    models = {r["model"] for r in right}
    explained = (
        "Every alarm here is false. *Proved* counts the pairs of which all outputs are, *off* is "
        "the largest deviation of a region of these, in what rounding does to it; the others are "
        "tested. The last columns apply the default tolerance of a peer to the very outputs that "
        "were compared: at onnxruntime's default level where all is proved.\n"
    )
    text = [
        f"## False alarms: {len(right)} right rewrites of {len(models)} architectures\n",
        explained,
        table(("type", "rewrite", "pairs", "alarms", "proved", "off", *PEERS), rows),
        "",
    ]
    tested = Counter(
        r["open"].partition(": ")[2]  # behind the output's name
        for r in right
        if r["verdict"] == "equivalent" and not r["proved"]
    )
    if tested:
        text += ["Tested, and not proved:\n", *(f"- {n}: {why}" for why, n in tested.items()), ""]
    odd = [r for r in right if r["verdict"] != "equivalent"]
    if odd:
        text += ["Not judged equivalent:\n"]
        text += [
            f"- {r['model']} {r['dtype']}, {r['rewrite']}: {r['verdict']}: {r['reason']}"
            for r in odd
        ]
    return "\n".join(text) + "\n"


def _fault_part(wrong: list[dict[str, Any]]) -> str:
    kinds = list(dict.fromkeys(w["fault"] for w in wrong))
    rows = []
    for kind in [*kinds, "all"]:
        group = [w for w in wrong if kind in {w["fault"], "all"}]
        seen = [w for w in group if w.get("visible")]
        faint = [w for w in group if not w.get("visible") and w["effect"] > 0]
        rows.append(
            (
                kind,
                len(group),
                len(seen),
                sum(w["verdict"] == "different" for w in seen),
                *(sum(not w["peers"][peer] for w in seen) for peer in PEERS),
                f"{sum(w['verdict'] == 'different' for w in faint)} of {len(faint)}",
                sum(w["effect"] == 0 for w in group),
            )
        )
    head = (
        "fault in one BN",
        "planted",
        "visible",
        "caught",
        *PEERS,
        "fainter, caught",
        "no effect",
    )
    missed = [w for w in wrong if w.get("visible") and w["verdict"] != "different"]
    counts = Counter(w["model"] for w in wrong)
    explained = (
        f"Over {', '.join(f'{m} ({n})' for m, n in counts.items())}. A fault is *visible* when its "
        "effect in float64 exceeds the original's noise floor in the runtime, *fainter* when it "
        "has an effect below that, and has *no effect* when float64 shows none on these inputs "
        "(a dead channel). *Caught*, and the columns of the peers, count visible faults.\n"
    )
    text = [
        f"## Faults: {len(wrong)} folds of models with one BatchNormalization changed\n",
        explained,
        table(head, rows),
        "",
        "Visible and missed:\n" if missed else "No visible fault was missed.\n",
        *(f"- {w['model']}: {w['what']}: {w['verdict']} {w['reason']}" for w in missed),
    ]
    return "\n".join(text) + "\n"


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--work", type=Path, default=Path("check-power"))
    parser.add_argument("--mutations", type=int, default=400)
    parser.add_argument("--only", nargs="*", default=[], help="models, by name")
    parser.add_argument("--parts", nargs="*", default=["rewrites", "faults", "timing"])
    parser.add_argument("--note", default="", help="a remark on the machine, for the tables")
    parser.add_argument("--rewrites", nargs="*", default=[], help="rewrites, by name")
    parser.add_argument(
        "--tables", nargs="*", type=Path, help="only write the tables of these logs"
    )
    options = parser.parse_args()
    if options.tables:
        texts = [path.read_text().splitlines() for path in options.tables]
        RESULTS.write_text(
            document([json.loads(line) for text in texts for line in text], options.note)
        )
        return
    options.work.mkdir(parents=True, exist_ok=True)
    zoo = sorted(options.zoo.glob("*.onnx"), key=lambda path: path.stat().st_size)
    zoo = [p for p in zoo if not options.only or p.stem in options.only]
    lines: list[dict[str, Any]] = []
    with (options.work / "check-power.jsonl").open("w") as file:

        def log(line: dict[str, Any]) -> None:
            lines.append(line)
            file.write(json.dumps(line) + "\n")
            file.flush()
            what = line.get("rewrite") or line.get("what") or "timing"
            ratio = [round(float(r), 2) for r in line.get("function_ratio") or ()]
            print(line["model"], what, line["verdict"], ratio, line["reason"][:200], flush=True)

        if "rewrites" in options.parts:
            false_alarms(zoo, options.work, log, options.rewrites)
        if "faults" in options.parts:
            faults(zoo, options.work, log, options.mutations)
        if "timing" in options.parts:
            timing(zoo, options.work, log)
    RESULTS.write_text(document(lines, options.note))


if __name__ == "__main__":
    main()

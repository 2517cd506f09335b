"""Does the check raise false alarms, and does it miss faults? Both measured, beside its peers.

    python benchmarks/check_power.py --zoo DIR [--work DIR] [--mutations 400] [--only NAME ...]

`--zoo` is a folder of ONNX models with BatchNormalizations in them. Each becomes a set of right
rewrites (itself, onnxruntime's own optimizer at two levels, a Conv+BN fold, onnxsim, onnxslim
where they are installed), in float32 and float16, on which every alarm is false; and of wrong
ones (a fold of a model in which one BatchNormalization was changed), of which every one should
be caught. The tolerances of Polygraphy, onnxsim and onnxslim judge the same arrays: their rules
are applied to the outputs that the check compared, their programs are not run.

The tables go to benchmarks/RESULTS-CHECK.md; every line of evidence to WORK/check-power.jsonl.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from normswap.check import CheckOptions
from normswap.check.bench import Bench
from normswap.check.compare import compare
from normswap.check.observe import observe_original, observe_rewritten
from normswap.check.report import OutputReport, reasons_of
from normswap.check.signature import read_signature, structural_differences
from normswap.check.verdict import overall
from normswap.errors import NormswapError

RESULTS = Path(__file__).parent / "RESULTS-CHECK.md"

# rtol and atol by default, as their sources have them, and the level of the runtime they use.
PEERS = {
    "Polygraphy 0.53": (1e-5, 1e-5),
    "onnxsim 0.8": (1e-4, 1e-5),
    "onnxslim 0.1": (1e-3, 1e-4),
}
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
    import onnxsim  # noqa: PLC0415 - optional

    with contextlib.redirect_stdout(io.StringIO()):
        model, _ = onnxsim.simplify(onnx.load(path), check_n=0)
    onnx.save(model, out)


def slimmed(path: Path, out: Path) -> None:
    """Run onnxslim."""
    import onnxslim  # noqa: PLC0415 - optional

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


def rewrites(path: Path, work: Path) -> Iterator[tuple[str, Path]]:
    """Yield every right rewrite of a model that can be made here."""
    yield "itself", path
    makers: dict[str, Callable[[Path, Path], None]] = {
        "folded": lambda a, b: onnx.save(fold(onnx.load(a)), b),
        "ORT basic": lambda a, b: optimized(a, b, "ORT_ENABLE_BASIC"),
        "ORT extended": lambda a, b: optimized(a, b, "ORT_ENABLE_EXTENDED"),
        "onnxsim": simplified,
        "onnxslim": slimmed,
    }
    for name, make in makers.items():
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
        for attribute in [a for a in bn.attribute if a.name == "epsilon"]:
            bn.attribute.remove(attribute)
        bn.attribute.append(onnx.helper.make_attribute("epsilon", 1e-3))
    for name, array in zip(bn.input[1:5], arrays, strict=True):
        fresh = f"{bn.output[0]}.{name}.mutant"  # parameters may be shared with another node
        mutant.graph.initializer.append(numpy_helper.from_array(array, fresh))
        bn.input[list(bn.input).index(name)] = fresh
    return mutant, f"{kind} in channel {channel} of {bn.name or bn.output[0]}"


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
        self.bench = Bench(folder, self.options, lambda _: None)
        began = time.perf_counter()
        self.seen = observe_original(self.bench, self.signature, self.options)
        self.seconds = time.perf_counter() - began

    def judge(self, path: Path, **facts: Any) -> dict[str, Any]:
        """Compare a rewrite, and apply the peers' rules to the same outputs."""
        line: dict[str, Any] = {**facts, "reason": "", "notes": []}
        began = time.perf_counter()
        rewritten = read_signature(path)
        structure = structural_differences(self.signature, rewritten)
        if structure:
            return {**line, "verdict": "different", "reason": "; ".join(structure)}
        try:
            seen = observe_rewritten(self.bench, rewritten, self.options, self.seen)
        except NormswapError as error:
            return {**line, "verdict": type(error).__name__, "reason": str(error)[:300]}
        outputs = compare(self.signature, seen, {})
        line["seconds"] = self.seconds + time.perf_counter() - began
        verdict = overall([output.judgement for output in outputs])
        line |= {"verdict": verdict.value, "reason": "; ".join(reasons_of(outputs))[:300]}
        line["notes"] = [note for note in seen.notes if "arbiter" in note]
        line["runtime_seconds"] = sum(
            run.wall_seconds for run in seen.runs if run.engine == "onnxruntime"
        )
        return line | _numbers(outputs)


def _numbers(outputs: Sequence[OutputReport]) -> dict[str, Any]:
    functions, effects, runtimes = [], [], []
    passed = dict.fromkeys(PEERS, True)
    for output in outputs:
        e, f = output.evidence, output.evidence.function
        if f is not None and f.floor.rms:
            functions.append(
                (f.deviation.rms / f.floor.rms, f.deviation.max / f.floor.max, f.channel_ratio)
            )
            effects.append((f.deviation.rms, e.noise.rms, f.deviation.max, e.noise.max))
            if e.error_original is not None and e.error_rewritten is not None:
                own = e.error_original.larger(e.noise).larger(f.floor)
                runtimes.append((e.error_rewritten.rms / own.rms, e.error_rewritten.max / own.max))
        if e.deployed is not None and e.deployed.envelope is not None:
            for peer, (rtol, atol) in PEERS.items():  # all three run the runtime's default level
                passed[peer] &= e.deployed.envelope.least_atol(rtol) <= atol
    return {
        "function_ratio": np.max(functions, axis=0).tolist() if functions else None,
        "runtime_ratio": np.max(runtimes, axis=0).tolist() if runtimes else None,
        # Its float64 effect exceeds the noise floor, in RMS or at the worst element.
        "visible": any(d > n or m > x for d, n, m, x in effects) if effects else None,
        "effects": effects,
        "peers": passed,
    }


def false_alarms(zoo: list[Path], work: Path, log: Any) -> None:
    """Check every right rewrite."""
    for path in zoo:
        for dtype in ("float32", "float16"):
            source = path
            if dtype == "float16":
                source = work / f"{path.stem}.float16.onnx"
                onnx.save(halved(onnx.load(path)), source)
            with tempfile.TemporaryDirectory() as folder:
                baseline = Baseline(source, Path(folder))
                for name, rewritten in rewrites(source, work):
                    log(baseline.judge(rewritten, model=path.stem, dtype=dtype, rewrite=name))
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
            for index in range(share):
                kind = KINDS[index % len(KINDS)]
                mutant, what = mutate(model, kind, rng)
                out = work / "mutant.onnx"
                onnx.save(fold(mutant), out)
                log(baseline.judge(out, model=path.stem, fault=kind, what=what))


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("check-power"))
    parser.add_argument("--mutations", type=int, default=400)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--skip-rewrites", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    zoo = sorted(options.zoo.glob("*.onnx"))
    zoo = [p for p in zoo if not options.only or p.stem in options.only]
    with (options.work / "check-power.jsonl").open("a") as file:

        def log(line: dict[str, Any]) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()
            ratio = line.get("function_ratio")
            print(
                line["model"],
                line.get("dtype", ""),
                line.get("rewrite") or line.get("what"),
                line["verdict"],
                [round(float(r), 2) for r in ratio] if ratio else "",
                [round(float(r), 2) for r in line.get("runtime_ratio") or ()],
                round(line.get("seconds", 0), 1),
                line["reason"][:200],
                *line.get("notes", ()),
                flush=True,
            )

        if not options.skip_rewrites:
            false_alarms(zoo, options.work, log)
        faults(zoo, options.work, log, options.mutations)


if __name__ == "__main__":
    main()

"""Latency and rounding of every way to write a group normalization, in onnxruntime on CPU.

    python benchmarks/gn_forms.py --output benchmarks/RESULTS-GN-CPU.md

All forms of a shape are loaded at once and run in turn, round after round, in one process; a figure
is the smallest over the rounds, because what disturbs a run only ever makes it longer. What is
subtracted is the same network without a normalization, so that the figures are those of the
normalization alone, at its place in a network: the cost of copying graph inputs and outputs, which
onnxruntime spares tensors in the middle of a network, is not in them. Between convolutions the
figure of a BatchNormalization is about zero, since onnxruntime folds it into the convolution.

Every thread has a core to itself (Linux only): else the scheduler may leave two of a session on one
core for all of its rounds. With several threads the figures mean something only where that many
cores are free at once in some rounds; on a machine that has other work to do, ``--rounds`` is high.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
from gn_tried import TRIED
from onnx import TensorProto, helper, numpy_helper

from normswap.errors import UsageError
from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.planner import SwapOptions, plan_swap
from normswap.groupnorm.policy import GroupPolicy
from normswap.groupnorm.reference import group_normalization
from normswap.model import load, write_to

if TYPE_CHECKING:
    from collections.abc import Callable

OPSET = 21
CORES = sorted(os.sched_getaffinity(0))
EPSILON = 1e-5

# The shape of the input, and the number of groups.
SHAPES: list[tuple[tuple[int, ...], int]] = [
    ((1, 64, 112, 112), 32),
    ((1, 64, 56, 56), 32),
    ((1, 256, 56, 56), 32),
    ((1, 128, 28, 28), 32),
    ((1, 256, 14, 14), 32),
    ((1, 512, 7, 7), 32),
    ((8, 64, 56, 56), 32),
    ((8, 256, 14, 14), 32),
    ((8, 512, 7, 7), 32),
    ((1, 64, 56, 56), 1),
    ((1, 64, 56, 56), 8),
    ((1, 64, 56, 56), 64),
    ((8, 512, 7, 7), 512),
    ((1, 256, 1024), 32),
    ((1, 64, 8, 28, 28), 32),
]

# What comes to the node: mean, standard deviation, and how it is made.
ACTIVATIONS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "mean 0, std 1": lambda rng, shape: rng.normal(size=shape),
    "mean 100, std 3": lambda rng, shape: rng.normal(size=shape) * 3 + 100,
    "mean 1e4, std 1e-2": lambda rng, shape: rng.normal(size=shape) * 1e-2 + 1e4,
    "constant 1e4": lambda _rng, shape: np.full(shape, 1e4),
    "huge, 1e15": lambda rng, shape: rng.normal(size=shape) * 1e15,
    "tiny, 1e-15": lambda rng, shape: rng.normal(size=shape) * 1e-15,
    "subnormal, 1e-40": lambda rng, shape: rng.normal(size=shape) * 1e-40,
    "one outlier of 1e4": lambda rng, shape: _outlier(rng.normal(size=shape)),
}


def _outlier(x: np.ndarray) -> np.ndarray:
    x.flat[7] = 1e4
    return x


def network(
    shape: tuple[int, ...], *, convolutions: bool, normalized: bool
) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """Return a model with one BatchNormalization (or none) in the middle, and its scale and B."""
    rng = np.random.default_rng(0)
    channels = shape[1]
    scale, bias = rng.normal(size=(2, channels)).astype(np.float32)
    mean, var = rng.normal(size=channels), rng.uniform(0.5, 2, channels)
    constants = [scale, bias, mean, var]
    initializers = [
        numpy_helper.from_array(np.asarray(value, np.float32), name)
        for name, value in zip(("scale", "B", "mean", "var"), constants, strict=True)
    ]
    weights = rng.normal(size=(2, channels, 1, *[3] * (len(shape) - 2)))
    if convolutions:
        initializers += [
            numpy_helper.from_array(value.astype(np.float32), f"W{i}")
            for i, value in enumerate(weights)
        ]
    pads = [1] * (2 * len(shape) - 4)  # depthwise, so that they take little time themselves
    if convolutions:
        nodes = [helper.make_node("Conv", ["input", "W0"], ["x"], group=channels, pads=pads)]
    else:
        nodes = [helper.make_node("Abs", ["input"], ["x"])]
    y = "x"
    if normalized:
        operands = ["x", "scale", "B", "mean", "var"]
        nodes.append(helper.make_node("BatchNormalization", operands, ["y"], epsilon=EPSILON))
        y = "y"
    if convolutions:
        nodes.append(helper.make_node("Relu", [y], ["r"]))
        last = helper.make_node("Conv", ["r", "W1"], ["output"], group=channels, pads=pads)
        nodes.append(last)
    else:
        nodes.append(helper.make_node("Abs", [y], ["output"]))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "network",
        [info("input", TensorProto.FLOAT, shape)],
        [info("output", TensorProto.FLOAT, shape)],
        initializers if normalized else [t for t in initializers if t.name.startswith("W")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return model, scale, bias


def swapped(
    model: onnx.ModelProto, groups: int, form: str, threads: int = 1
) -> tuple[bytes, str] | None:
    """Return a model with a form in the place of the normalization, None where it can't be."""
    loaded = load(model.SerializeToString())
    try:
        plan = plan_swap(loaded, SwapOptions(GroupPolicy(groups=groups), form, threads=threads))
    except UsageError:
        return None
    apply_swaps(plan, loaded)
    stream = io.BytesIO()
    write_to(loaded, stream)
    return stream.getvalue(), plan.swaps[0].form


def session(model: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Or the threads of the session that ran last would go on spinning, beside those of the next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads > 1:
        cores = ";".join(str(core + 1) for core in CORES[1:threads])  # counted from 1
        options.add_session_config_entry("session.intra_op_thread_affinities", cores)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def latencies(
    shape: tuple[int, ...], groups: int, *, convolutions: bool, threads: int, rounds: int
) -> tuple[dict[str, float], str]:
    """Return milliseconds by form, net of the network around, and what ``auto`` is."""
    model, scale, bias = network(shape, convolutions=convolutions, normalized=True)
    bare, _, _ = network(shape, convolutions=convolutions, normalized=False)
    sessions = {
        "": session(bare.SerializeToString(), threads),
        "bn": session(model.SerializeToString(), threads),
    }
    for form in FORMS:
        made = swapped(model, groups, form)
        if made is not None:
            sessions[form] = session(made[0], threads)
    made = swapped(model, groups, "auto", threads)
    assert made is not None
    auto = made[1]  # the same graph as that form's, so it is measured once
    for name, build in TRIED.items():
        tried = build(model, groups, scale, bias, EPSILON)
        if tried is not None:
            sessions[name] = session(tried, threads)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    best = dict.fromkeys(sessions, float("inf"))
    for number in range(rounds + 2):
        for name, each in sessions.items():
            began = time.perf_counter()
            each.run(None, {"input": x})
            if number > 1:  # the first ones warm up
                best[name] = min(best[name], time.perf_counter() - began)
    around = best.pop("")
    net = {name: (seconds - around) * 1e3 for name, seconds in best.items()}
    return net | {"auto": net[auto]}, auto


def errors(groups: int) -> dict[str, dict[str, float]]:
    """Return the largest error beside float64, by activation and form."""
    shape = (2, 64, 32, 32)
    model, scale, bias = network(shape, convolutions=False, normalized=True)
    # The Abs after the node would hide the sign of its result.
    graph = model.graph
    del graph.node[-1]
    graph.node[0].op_type = "Identity"
    graph.node[-1].output[0] = "output"
    sessions = {
        form: session(made[0], 2)
        for form in FORMS
        if (made := swapped(model, groups, form)) is not None and form != "contrib"
    }
    found: dict[str, dict[str, float]] = {}
    for name, make in ACTIVATIONS.items():
        x = make(np.random.default_rng(2), shape).astype(np.float32)
        truth = group_normalization(x, scale, bias, num_groups=groups, epsilon=np.float32(EPSILON))
        found[name] = {
            form: float(np.abs(each.run(None, {"input": x})[0] - truth).max())
            for form, each in sessions.items()
        }
    return found


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _latency_table(threads: int, rounds: int, *, convolutions: bool) -> str:
    names = ["bn", "native", "layernorm", "instancenorm", "primitive", "auto", *TRIED]
    rows = []
    for shape, groups in SHAPES:
        if convolutions and len(shape) != 4:
            continue
        found, auto = latencies(
            shape, groups, convolutions=convolutions, threads=threads, rounds=rounds
        )
        best = min(found[name] for name in FORMS if name in found)
        label = f"{'x'.join(map(str, shape))}, G={groups}"
        cells = [f"{found[name]:.3f}" if name in found else "" for name in names]
        cells[names.index("auto")] += f" ({auto})"
        rows.append(
            [
                label,
                *cells,
                f"{found['auto'] / best:.2f}",
                f"{found['native'] / found['auto']:.2f}",
                f"{found['auto'] / found['bn']:.1f}" if not convolutions else "",
            ]
        )
        print(label, cells, rows[-1][-3:], flush=True)
    return table(["ms", *names, "auto / best", "native / auto", "auto / bn"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/RESULTS-GN-CPU.md"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=150)
    args = parser.parse_args()
    os.sched_setaffinity(0, CORES[:1])
    forms = [form for form in FORMS if form != "contrib"]
    parts = [
        "# Forms of group normalization on CPU",
        (
            f"onnxruntime {ort.__version__}, onnx {onnx.__version__}, "
            f"{os.cpu_count()} cores ({platform.machine()}). "
            "Made by `python benchmarks/gn_forms.py`; "
            "its docstring says how. Compare within a row only. "
            "The columns after `auto` are graphs that were tried and are not offered "
            "(`benchmarks/gn_tried.py` says why)."
        ),
    ]
    for threads in args.threads:
        count = "one thread" if threads == 1 else f"{threads} threads"
        for convolutions, title in (
            (False, "Alone (between element-wise operators)"),
            (True, "Between convolutions (Conv, the node, Relu, Conv)"),
        ):
            rows = _latency_table(threads, args.rounds, convolutions=convolutions)
            parts += [f"## {title}, {count}", rows]
    parts.append("## Largest error beside float64 (2x64x32x32, G=8, |scale| up to 2.5)")
    rows = [[name, *(f"{found[form]:.1e}" for form in forms)] for name, found in errors(8).items()]
    parts.append(table(["activations", *forms], rows))
    args.output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(args.output)


if __name__ == "__main__":
    main()

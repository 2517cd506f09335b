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
import os
import platform
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from gn_inputs import ACTIVATIONS, affine_of
from gn_tried import TRIED
from onnx import TensorProto

from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.reference import group_normalization
from normswap.groupnorm.surroundings import in_form, small_network

OPSET = 21
CORES = sorted(os.sched_getaffinity(0))
EPSILON = 1e-5
FORMS_ON_CPU = ["native", *(form for form in FORMS if form not in ("contrib", "native"))]

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


def network(
    shape: tuple[int, ...], affine: tuple[np.ndarray, np.ndarray] | None, *, convolutions: bool
) -> onnx.ModelProto:
    return small_network(
        shape,
        affine,
        data_type=TensorProto.FLOAT,
        opset=OPSET,
        epsilon=EPSILON,
        convolutions=convolutions,
        activation="Relu" if convolutions else "",
    )


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
    affine = affine_of(shape[1])
    model = network(shape, affine, convolutions=convolutions)
    bare = network(shape, None, convolutions=convolutions)
    sessions = {
        "": session(bare.SerializeToString(), threads),
        "bn": session(model.SerializeToString(), threads),
    }
    for form in FORMS_ON_CPU:
        sessions[form] = session(in_form(model, groups, form)[0], threads)
    # The same graph as that form's, so it is measured once.
    _, auto = in_form(model, groups, "auto", threads=threads)
    for name, build in TRIED.items():
        sessions[name] = session(build(model, groups, *affine, EPSILON), threads)
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
    scale, bias = affine_of(shape[1])
    model = network(shape, (scale, bias), convolutions=False)
    # The Abs after the node would hide the sign of its result.
    graph = model.graph
    del graph.node[-1]
    graph.node[0].op_type = "Identity"
    graph.node[-1].output[0] = "output"
    sessions = {form: session(in_form(model, groups, form)[0], 2) for form in FORMS_ON_CPU}
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
    names = ["bn", *FORMS_ON_CPU, "auto", *TRIED]
    rows = []
    for shape, groups in SHAPES:
        if convolutions and len(shape) != 4:
            continue
        found, auto = latencies(
            shape, groups, convolutions=convolutions, threads=threads, rounds=rounds
        )
        best = min(found[name] for name in FORMS_ON_CPU)
        label = f"{'x'.join(map(str, shape))}, G={groups}"
        cells = [f"{found[name]:.3f}" for name in names]
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
    rows = [
        [name, *(f"{found[form]:.1e}" for form in FORMS_ON_CPU)]
        for name, found in errors(8).items()
    ]
    parts.append(table(["activations", *FORMS_ON_CPU], rows))
    args.output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(args.output)


if __name__ == "__main__":
    main()

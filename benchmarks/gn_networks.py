"""What the forms of group normalization cost in whole networks, in onnxruntime on CPU.

    python benchmarks/gn_networks.py --dir ../zoo --output benchmarks/RESULTS-GN-NETWORKS.md

The networks are those of ``benchmarks/zoo.py``, brought to opset 21 and swapped by ``normswap
bn-to-gn --groups 32 --on-indivisible gcd --form FORM``. Where sizes are open, batch, height and
width are dynamic; else only the batch is. All of a row are loaded at once and run in turn on one
image of 224x224 pixels, round after round, in one process; a figure is the smallest over the
rounds. What is divided in the last column is what the network takes beyond the original, whose
BatchNormalizations onnxruntime folds into convolutions where it can.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from gn_forms import CORES, OPSET, session, table
from onnx import version_converter

from normswap.groupnorm.options import SwapOptions
from normswap.groupnorm.policy import GroupPolicy, OnIndivisible
from normswap.workflows.swap import swap

NETWORKS = ["resnet50", "densenet121", "efficientnet_b0"]
FORMS = ["native", "instancenorm", "layernorm", "centred", "auto", "fastest"]
SIZE = 224


def opened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with the sizes left open that its export has fixed."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, name in zip(dims, ("batch", "", "height", "width"), strict=True):
        if name:
            dim.dim_param = name
    del model.graph.value_info[:]
    return model


def milliseconds(model: bytes, threads: int, rounds: int) -> dict[str, float]:
    """Return the shortest run of the original (``""``) and of each form."""
    sessions = {"": session(model, threads)}
    policy = GroupPolicy(groups=32, on_indivisible=OnIndivisible.GCD)
    with tempfile.TemporaryDirectory() as folder:
        os.sched_setaffinity(0, CORES)  # fastest starts a process, which should have them all
        for form in FORMS:
            path = Path(folder, f"{form}.onnx")
            options = SwapOptions(policy, form, threads=threads, normalize=False)  # forms alone
            swap(model, path, options)
            os.sched_setaffinity(0, CORES[:1])
            sessions[form] = session(path.read_bytes(), threads)
            os.sched_setaffinity(0, CORES)
    os.sched_setaffinity(0, CORES[:1])
    (port,) = sessions[""].get_inputs()
    x = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
    best = dict.fromkeys(sessions, float("inf"))
    for _ in range(rounds):
        for form, each in sessions.items():
            began = time.perf_counter()
            each.run(None, {port.name: x})
            best[form] = min(best[form], (time.perf_counter() - began) * 1e3)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="where benchmarks/zoo.py wrote to")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/RESULTS-GN-NETWORKS.md"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    rows = []
    for name in NETWORKS:
        for sizes in ("fixed", "open"):
            model = onnx.load(args.dir / f"{name}.onnx")
            model = opened(model) if sizes == "open" else model
            model = version_converter.convert_version(model, OPSET)
            for threads in args.threads:
                found = milliseconds(model.SerializeToString(), threads, args.rounds)
                plain = found.pop("")
                cells = [f"{value:.1f}" for value in (plain, *found.values())]
                ratio = (found["native"] - plain) / (found["auto"] - plain)
                rows.append([name, sizes, str(threads), *cells, f"{ratio:.2f}"])
                print(rows[-1], flush=True)
    parts = [
        "# Group normalization in whole networks on CPU",
        (
            f"Milliseconds for one image; onnxruntime {ort.__version__}. Made by "
            "`python benchmarks/gn_networks.py`; its docstring says how."
        ),
        table(
            ["network", "sizes", "threads", "original", *FORMS, "native / auto, beyond original"],
            rows,
        ),
    ]
    args.output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

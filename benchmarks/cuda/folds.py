"""The step ``folds``: the latency of networks before and after a fold.

As deployed: onnxruntime's own optimizations, TF32 and its race between convolution algorithms are
on, as they are by default. onnxruntime folds a BN into the Conv before it by itself; what is gained
is what it leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.cuda.bound import AS_DEPLOYED, Bound, seconds
from benchmarks.cuda.halved import halve
from normswap.workflows.fold import fold

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.cuda.page import Section

BATCHES = (1, 32)


def conv_relu_bn(path: Path, layers: int = 12, channels: int = 64, side: int = 56) -> Path:
    """Write a chain of Conv 3x3, Relu, BN: an order in which no runtime folds.

    Without padding: a shift can't pass zeros that are not shifted.
    """
    rng = np.random.default_rng(0)
    constants: list[TensorProto] = []
    nodes = []

    def constant(values: np.ndarray, name: str) -> str:
        constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    y, inputs = "input", 3
    for n in range(layers):
        fan_in = inputs * 9
        weights = constant(rng.normal(size=(channels, inputs, 3, 3)) * np.sqrt(2 / fan_in), f"W{n}")
        nodes.append(helper.make_node("Conv", [y, weights], [f"c{n}"]))
        nodes.append(helper.make_node("Relu", [f"c{n}"], [f"r{n}"]))
        statistics = {
            "scale": rng.uniform(0.5, 1.5, channels),
            "B": rng.normal(size=channels) * 0.1,
            "mean": rng.uniform(0.2, 0.6, channels),
            "var": rng.uniform(0.3, 1, channels),
        }
        operands = [constant(values, f"{key}{n}") for key, values in statistics.items()]
        nodes.append(helper.make_node("BatchNormalization", [f"r{n}", *operands], [f"b{n}"]))
        y, inputs = f"b{n}", channels
    head = constant(rng.normal(size=(channels, 10)) / np.sqrt(channels), "head")
    nodes += [
        helper.make_node("GlobalAveragePool", [y], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", head], ["output"]),
    ]
    ends = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, side, side]),
        helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 10]),
    ]
    graph = helper.make_graph(nodes, "conv_relu_bn", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def run(section: Section, provider: str, models: list[Path], folder: Path, rounds: int) -> bool:
    """Measure; return whether outputs before and after agree."""
    folder = folder / "made" / "folds"
    folder.mkdir(parents=True, exist_ok=True)
    section.text("Milliseconds of a run: the median, and in brackets the least.")
    section.table(["model", "type", "batch", "BNs", "before", "after", "before / after"])
    own = conv_relu_bn(folder / "conv_relu_bn.onnx")
    good = True
    for source in (own, *models):
        for dtype in (np.float32, np.float16):
            half = dtype is np.float16
            model = halve(source, folder / f"half-{source.name}") if half else source
            folded = folder / f"folded-{model.name}"
            counts = fold(model, folded, check=None).report.plan
            told = f"{len(counts.folded)} of {len(counts.folded) + len(counts.kept)}"
            for batch in BATCHES:
                x = _input(model, batch, dtype)
                if x is None:
                    continue
                pair = {
                    "before": Bound(model.read_bytes(), provider, x, AS_DEPLOYED),
                    "after": Bound(folded.read_bytes(), provider, x, AS_DEPLOYED),
                }
                taken = seconds(pair, rounds)
                median = {name: float(np.median(values)) for name, values in taken.items()}
                cells = [
                    f"{median[name] * 1e3:.3f} ({taken[name].min() * 1e3:.3f})" for name in pair
                ]
                section.row(
                    [
                        source.stem,
                        np.dtype(dtype).name,
                        str(batch),
                        told,
                        *cells,
                        f"{median['before'] / median['after']:.2f}",
                    ]
                )
                good = good and _agree(pair, half=half)
    return good


def _input(model: Path, batch: int, dtype: type) -> np.ndarray | None:
    """Return an input; None if the model has its batch size in it."""
    dims = onnx.load(model, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    if dims[0].dim_value not in (0, batch):
        return None
    shape = [batch, *(dim.dim_value for dim in dims[1:])]
    return np.random.default_rng(1).normal(size=shape).astype(dtype)


def _agree(pair: dict[str, Bound], *, half: bool) -> bool:
    """Tell whether both give the same, as far as TF32 (or float16) can tell."""
    before, after = (session.result().astype(np.float64) for session in pair.values())
    error = float(np.abs(before - after).max() / np.abs(before).max())
    if error > (0.2 if half else 0.05):
        print(f"outputs are apart by {error:.1e} of the largest", flush=True)
        return False
    return True

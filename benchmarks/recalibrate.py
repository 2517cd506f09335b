"""`normswap recalibrate` beside the statistics of all data as one batch, in float64.

    python benchmarks/recalibrate.py

writes ``benchmarks/RESULTS-RECALIBRATE.md``. The truth is made here by NumPy alone: the network in
float64, every BatchNormalization with the statistics of all data. How far off a recalibration is,
is told of the worst channel of the worst layer: its mean in deviations, its variance relatively.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnxruntime as ort
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper

import normswap
from normswap.groupnorm import estimate

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "models" / "digits_resnet.onnx"
DATA = ROOT / "models" / "digits_test.npz"
FIT = 256
BLOCKS, WIDTH, SIZE, SAMPLES = 12, 32, 24, 96


# The truth -------------------------------------------------------------------------------------


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, **attrs: object) -> np.ndarray:
    group, strides = attrs.get("group", 1), attrs.get("strides", [1, 1])
    top, left, bottom, right = attrs.get("pads", [0, 0, 0, 0])
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = sliding_window_view(x, weight.shape[2:], axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1]]
    inner, outer = x.shape[1] // group, len(weight) // group
    parts = [
        np.einsum(
            "nihwkl,oikl->nohw",
            windows[:, g * inner : (g + 1) * inner],
            weight[g * outer : (g + 1) * outer],
            optimize=True,
        )
        for g in range(group)
    ]
    return np.concatenate(parts, axis=1) + np.reshape(bias, (1, -1, 1, 1))


def truth_of(model: onnx.ModelProto, x: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and variance by node, all data being one batch."""
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    values = {n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in values.items()}
    values[model.graph.input[0].name] = x.astype(np.float64)
    found = {}
    for node in model.graph.node:
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        operands = [values[name] for name in node.input if name]
        match node.op_type:
            case "Conv":
                bias = operands[2] if len(operands) > 2 else np.zeros(len(operands[1]))
                result = convolved(operands[0], operands[1], bias, **attrs)
            case "BatchNormalization":
                value, scale, bias = operands[:3]
                mean, var = value.mean(axis=(0, 2, 3)), value.var(axis=(0, 2, 3))
                found[node.name] = mean, var
                factor = scale / np.sqrt(var + attrs.get("epsilon", 1e-5))
                shift = bias - mean * factor
                result = value * factor[:, None, None] + shift[:, None, None]
            case "Relu":
                result = np.maximum(operands[0], 0)
            case "Add":
                result = operands[0] + operands[1]
            case "GlobalAveragePool":
                result = operands[0].mean(axis=(2, 3), keepdims=True)
            case "Flatten":
                result = operands[0].reshape(len(operands[0]), -1)
            case "Identity":
                (result,) = operands
            case _:  # what comes behind the last layer
                break
        values[node.output[0]] = result
    return found


def distances(
    model: onnx.ModelProto, truth: dict[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[float, float]:
    """Return how far means and variances are off."""
    tensors = {t.name: numpy_helper.to_array(t).astype(float) for t in model.graph.initializer}
    means, variances = [0.0], [0.0]
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            mean, var = truth[node.name]
            means.append(np.abs((tensors[node.input[3]] - mean) / np.sqrt(var + 1e-5)).max())
            variances.append(np.abs(tensors[node.input[4]] / (var + 1e-12) - 1).max())
    return max(means), max(variances)


# The networks ----------------------------------------------------------------------------------


def depthwise() -> onnx.ModelProto:
    """Return depthwise and pointwise convolutions in turn, with the statistics of no data."""
    rng = np.random.default_rng(0)
    nodes, tensors = [], []

    def constant(array: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(array.astype(np.float32), f"c{len(tensors)}"))
        return tensors[-1].name

    def layer(x: str, weight: np.ndarray, **attrs: object) -> str:
        number, channels = len(nodes), len(weight)
        nodes.append(helper.make_node("Conv", [x, constant(weight)], [f"conv{number}"], **attrs))
        parameters = [rng.uniform(0.5, 1.5, channels), rng.normal(0, 0.5, channels)]
        parameters += [np.zeros(channels), np.ones(channels)]
        names = [f"conv{number}", *map(constant, parameters)]
        nodes.append(helper.make_node("BatchNormalization", names, [f"bn{number}"], f"bn{number}"))
        nodes.append(helper.make_node("Relu", [f"bn{number}"], [f"relu{number}"]))
        return f"relu{number}"

    x = layer("x", rng.normal(size=(WIDTH, 3, 3, 3)), pads=[1] * 4)
    for _ in range(BLOCKS):
        x = layer(x, rng.normal(size=(WIDTH, 1, 3, 3)), group=WIDTH, pads=[1] * 4)
        x = layer(x, rng.normal(size=(WIDTH, WIDTH, 1, 1)))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "depthwise",
        [info("x", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [info(x, TensorProto.FLOAT, ["N", WIDTH, SIZE, SIZE])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pictures() -> np.ndarray:
    """Return samples that differ in level and contrast, the dark ones first."""
    rng = np.random.default_rng(1)
    level = np.sort(rng.normal(size=SAMPLES))[:, None, None, None]
    contrast = rng.uniform(0.3, 2, (SAMPLES, 1, 1, 1))
    x = rng.normal(size=(SAMPLES, 3, SIZE, SIZE)) * contrast + level
    return x.astype(np.float32)


def with_batch(model: onnx.ModelProto, size: int | None) -> onnx.ModelProto:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for info in (*fixed.graph.input, *fixed.graph.output):
        dim = info.type.tensor_type.shape.dim[0]
        dim.Clear()
        if size is not None:
            dim.dim_value = size
    return fixed


def reset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with mean 0 and variance 1 everywhere, as if it had never seen data."""
    blank = onnx.ModelProto()
    blank.CopyFrom(model)
    slots = {
        n.input[s]: s for n in blank.graph.node if n.op_type == "BatchNormalization" for s in (3, 4)
    }
    for tensor in blank.graph.initializer:
        if tensor.name in slots:
            values = np.full(tuple(tensor.dims), float(slots[tensor.name] == 4), np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return blank


# The tables ------------------------------------------------------------------------------------


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def recalibrated(
    model: onnx.ModelProto, feeds: dict[str, np.ndarray], batch: int | None, **options: object
) -> tuple[onnx.ModelProto, float]:
    """Return a model with new statistics, and how long that took; by its own batch if for None."""
    size = batch or len(next(iter(feeds.values())))
    batches = [
        {name: value[at : at + size] for name, value in feeds.items()}
        for at in range(0, len(next(iter(feeds.values()))), size)
    ]
    began = time.perf_counter()
    new = normswap.recalibrate(model, batches if batch else feeds, **options).model
    return new, time.perf_counter() - began


def compared(name: str, model: onnx.ModelProto, x: np.ndarray) -> list[list[str]]:
    port = model.graph.input[0].name
    truth = truth_of(model, x)
    orders = {
        "as it is": np.arange(len(x)),
        "shuffled": np.random.default_rng(0).permutation(len(x)),
        "by level": np.argsort(x.mean(axis=(1, 2, 3))),
    }
    cases = [(str(b), model, b, "as it is") for b in (1, 2, 32, len(x))]
    cases += [("32", model, 32, order) for order in ("shuffled", "by level")]
    cases += [(f"{b}, fixed in the file", with_batch(model, b), None, "as it is") for b in (1, 7)]
    rows = []
    for told, form, batch, order in cases:
        feeds = {port: x[orders[order]]}
        new, seconds = recalibrated(form, feeds, batch)
        with mock.patch.object(estimate, "ROOM", 0):
            _, without = recalibrated(form, feeds, batch)
        means, variances = distances(new, truth)
        rows.append(
            [
                name,
                told,
                order,
                f"{means:.1e}",
                f"{variances:.1e}",
                f"{seconds:.1f}",
                f"{without:.1f}",
            ]
        )
        print(rows[-1], flush=True)
    for batch in (2, 32):
        new, seconds = recalibrated(model, {port: x}, batch, momentum=0.9)
        means, variances = distances(new, truth)
        told = f"{batch}, `--momentum 0.9`"
        rows.append(
            [name, told, "as it is", f"{means:.2f}", f"{variances:.2f}", f"{seconds:.1f}", ""]
        )
        print(rows[-1], flush=True)
    return rows


def accuracies() -> list[list[str]]:
    data = np.load(DATA)
    images, labels = data["image"], data["labels"]
    model = onnx.load(DIGITS)

    def told(name: str, network: onnx.ModelProto) -> list[str]:
        session = ort.InferenceSession(network.SerializeToString())
        logits = session.run(None, {"image": images[FIT:]})[0]
        right = int((logits.argmax(axis=1) == labels[FIT:]).sum())
        return [name, f"{right / len(logits):.1%}", f"{right} of {len(logits)}"]

    blank, feeds = reset(model), {"image": images[:FIT]}
    rows = [told("as it was trained", model), told("mean 0, variance 1", blank)]
    for batch in (1, 2, 32, FIT):
        new, _ = recalibrated(blank, feeds, batch)
        rows.append(told(f"recalibrated, batches of {batch}", new))
    new, _ = recalibrated(with_batch(blank, 1), feeds, None)
    rows.append(told("recalibrated, batch of 1 in the file", with_batch(new, None)))
    for row in rows:
        print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    output = ROOT / "benchmarks" / "RESULTS-RECALIBRATE.md"
    parser.add_argument("--output", type=Path, default=output)
    args = parser.parse_args()
    rows = compared("digits_resnet", onnx.load(DIGITS), np.load(DATA)["image"])
    rows += compared("depthwise", depthwise(), pictures())
    head = ["network", "batch", "order", "means off", "variances off", "seconds", "nothing kept"]
    parts = [
        "# Recalibration beside all data as one batch",
        (
            f"onnxruntime {ort.__version__}; made by `python benchmarks/recalibrate.py`, whose "
            "docstring says how. digits_resnet has 8 layers on 540 images of 8x8; depthwise has "
            f"{1 + 2 * BLOCKS} on {SAMPLES} of {SIZE}x{SIZE}, which it has never seen. Off are the "
            "worst channel's mean, in deviations, and variance, relatively. Seconds are those of "
            "the whole function; in the last column every pass began at the inputs."
        ),
        table(head, rows),
        "## The digits network",
        (
            f"Its accuracy on the {540 - FIT} images that were not used, the statistics being "
            f"those of the first {FIT}."
        ),
        table(["statistics", "accuracy", "right"], accuracies()),
    ]
    args.output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Faults of every kind in folded models: what the check says of each, beside its peers' rules.

    python -m benchmarks.proof_faults [--count 32] [--seed 0] [--kinds NAME ...]

A network with every kind of place a rewrite may go wrong at (groups, windows with automatic pads,
dilations, a limit, a branch, a loop, indices, an ArgMax, two heads) is folded, and one fault is
planted in the fold, again and again with other weights. `check` judges each pair: by proof alone
first, and where that is inconclusive as it does by default. Polygraphy, onnxsim and onnxslim would
run both on one random input and compare the outputs within fixed tolerances; their rules, as their
sources have them, are applied to what onnxruntime makes of such an input.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import normswap
from benchmarks.check_power import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE, CHANNELS, ROWS = 17, 8, 1000
CLASSES = 5


def network(seed: int) -> onnx.ModelProto:
    """Return the network, its weights by a seed."""
    rng = np.random.default_rng(seed)
    weights: list[TensorProto] = []

    def const(name: str, array: Any) -> str:
        weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def normal(name: str, *shape: int) -> str:
        fan = max(int(np.prod(shape[1:])), 1)
        return const(name, (rng.normal(size=shape) / np.sqrt(fan)).astype(np.float32))

    def bn(x: str, name: str) -> onnx.NodeProto:
        drawn = rng.uniform(0.5, 1.5, CHANNELS), *rng.normal(size=(2, CHANNELS))
        arrays = (*drawn, rng.uniform(0.5, 2, CHANNELS))
        names = [const(f"{name}.{i}", a.astype(np.float32)) for i, a in enumerate(arrays)]
        return helper.make_node("BatchNormalization", [x, *names], [name])

    node = helper.make_node
    info = helper.make_tensor_value_info
    branches = {
        f"{which}_branch": helper.make_graph(
            [
                node(
                    "Conv", ["n3", normal(f"{which}.w", CHANNELS, CHANNELS, 1, 1)], [f"{which}.out"]
                )
            ],
            which,
            [],
            [info(f"{which}.out", TensorProto.FLOAT, None)],
        )
        for which in ("then", "else")
    }
    body = helper.make_graph(
        [
            node("Constant", [], ["gain"], value=_tensor("gain.value", rng.uniform(0.5, 0.9))),
            node("Mul", ["before", "gain"], ["scaled"]),
            node("Tanh", ["scaled"], ["after"]),
            node("Identity", ["go"], ["goes"]),
        ],
        "body",
        [
            info("turn", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("before", TensorProto.FLOAT, None),
        ],
        [info("goes", TensorProto.BOOL, []), info("after", TensorProto.FLOAT, None)],
    )
    nodes = [
        node("Conv", ["x", normal("w1", CHANNELS, 3, 3, 3)], ["c1"], group=2, pads=[1] * 4),
        bn("c1", "n1"),
        node("Relu", ["n1"], ["r1"]),
        node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        node(
            "Conv",
            ["p1", normal("w2", CHANNELS, CHANNELS, 3, 3)],
            ["c2"],
            strides=[2, 2],
            auto_pad="SAME_UPPER",
        ),
        bn("c2", "n2"),
        node("Clip", ["n2", const("low", np.float32(0)), const("high", np.float32(6))], ["r2"]),
        node(
            "Conv",
            ["r2", normal("w3", CHANNELS, CHANNELS, 3, 3)],
            ["c3"],
            dilations=[2, 2],
            pads=[2] * 4,
        ),
        bn("c3", "n3"),
        node("If", ["flag"], ["chosen"], **branches),
        node("Relu", ["chosen"], ["r4"]),
        bn("r4", "n4"),
        node("Tanh", ["n4"], ["t4"]),
        node("Loop", [const("turns", np.int64(3)), "", "t4"], ["looped"], body=body),
        node("Softmax", ["t4"], ["s"], axis=1),
        node("Mul", ["s", "t4"], ["m"]),
        node("GlobalAveragePool", ["m"], ["g"]),
        node("GlobalAveragePool", ["looped"], ["gl"]),
        node("Flatten", ["gl"], ["turned"]),
        node("Flatten", ["g"], ["flat"]),
        node("Gather", [normal("table", ROWS, CHANNELS), "ids"], ["row"]),
        node("Add", ["flat", "row"], ["mixed"]),
        node("Gemm", ["mixed", normal("wa", CHANNELS, CLASSES), normal("ba", CLASSES)], ["first"]),
        node(
            "Gemm", ["turned", normal("wb", CHANNELS, CLASSES), normal("bb", CLASSES)], ["second"]
        ),
        node("Gemm", ["mixed", normal("wc", CHANNELS, CLASSES), normal("bc", CLASSES)], ["third"]),
        node("ArgMax", ["third"], ["best"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [
            info("x", TensorProto.FLOAT, ["N", 6, SIDE, SIDE]),
            info("flag", TensorProto.BOOL, [1]),
            info("ids", TensorProto.INT64, ["N"]),
        ],
        [
            info("first", TensorProto.FLOAT, ["N", CLASSES]),
            info("second", TensorProto.FLOAT, ["N", CLASSES]),
            info("best", TensorProto.INT64, ["N"]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def _tensor(name: str, value: Any) -> TensorProto:
    return numpy_helper.from_array(np.float32(value), name)


# --------------------------------------------------------------------------- faults


def _node(model: onnx.ModelProto, makes: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if makes in node.output)


def _kind(model: onnx.ModelProto, op: str, number: int = 0) -> onnx.NodeProto:
    return [node for node in model.graph.node if node.op_type == op][number]


def _attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _weight(model: onnx.ModelProto, name: str, edit: Callable[[np.ndarray], None]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    array = numpy_helper.to_array(tensor).copy()
    edit(array)
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def one_weight(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    def edit(array: np.ndarray) -> None:
        array.reshape(-1)[rng.integers(array.size)] *= np.float32(1 + 1e-5)

    _weight(model, _kind(model, "Conv", int(rng.integers(3))).input[1], edit)


def one_tap(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    def edit(array: np.ndarray) -> None:
        array.reshape(-1)[rng.integers(array.size)] = 0

    _weight(model, _kind(model, "Conv", int(rng.integers(3))).input[1], edit)


def one_shift(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    def edit(array: np.ndarray) -> None:
        array[rng.integers(array.size)] += np.float32(1e-5)

    _weight(model, _kind(model, "Conv", int(rng.integers(3))).input[2], edit)


def channel_of_a_group(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    def edit(array: np.ndarray) -> None:
        array[rng.integers(len(array))] *= np.float32(1.001)

    _weight(model, _kind(model, "Conv").input[1], edit)


def channels_of_a_group_rolled(model: onnx.ModelProto, _: np.random.Generator) -> None:
    def edit(array: np.ndarray) -> None:
        array[: len(array) // 2] = np.roll(array[: len(array) // 2], 1, axis=0)

    _weight(model, _kind(model, "Conv").input[1], edit)


def pads(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    _attribute(_kind(model, "Conv"), "pads", [[2, 1, 0, 1], [1, 0, 1, 2]][rng.integers(2)])


def dilations(model: onnx.ModelProto, _: np.random.Generator) -> None:
    node = _kind(model, "Conv", 2)
    _attribute(node, "dilations", [1, 1])
    _attribute(node, "pads", [1] * 4)


def auto_pad(model: onnx.ModelProto, _: np.random.Generator) -> None:
    _attribute(_kind(model, "Conv", 1), "auto_pad", "SAME_LOWER")


def ceil_mode(model: onnx.ModelProto, _: np.random.Generator) -> None:
    _attribute(_kind(model, "MaxPool"), "ceil_mode", 1)


def epsilon(model: onnx.ModelProto, _: np.random.Generator) -> None:
    _attribute(_kind(model, "BatchNormalization"), "epsilon", 1e-3)


def axis(model: onnx.ModelProto, _: np.random.Generator) -> None:
    _attribute(_kind(model, "Softmax"), "axis", 2)


def dropped_relu(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    _kind(model, "Relu", int(rng.integers(2))).op_type = "Identity"


def clip_at_60(model: onnx.ModelProto, _: np.random.Generator) -> None:
    def edit(array: np.ndarray) -> None:
        array *= 10

    _weight(model, "high", edit)


def branches_exchanged(model: onnx.ModelProto, _: np.random.Generator) -> None:
    node = _kind(model, "If")
    for attribute in node.attribute:
        other = "else_branch" if attribute.name == "then_branch" else "then_branch"
        attribute.name = other


def constant_of_a_body(model: onnx.ModelProto, _: np.random.Generator) -> None:
    body = _kind(model, "Loop").attribute[0].g
    value = next(node for node in body.node if node.op_type == "Constant").attribute[0].t
    value.CopyFrom(_tensor(value.name, numpy_helper.to_array(value) * 1.0001))


def only_at_a_batch_of_7(model: onnx.ModelProto, _: np.random.Generator) -> None:
    node = helper.make_node
    _insert(
        model,
        "first",
        [
            node("Shape", ["x"], ["size"], start=0, end=1),
            node("Equal", ["size", _added(model, "seven", np.array([7]))], ["is_seven"]),
            node("Cast", ["is_seven"], ["more"], to=TensorProto.FLOAT),
            node("Add", ["right", "more"], ["first"]),
        ],
    )


def only_for_negative_inputs(model: onnx.ModelProto, _: np.random.Generator) -> None:
    _kind(model, "Conv").input[0] = "bent"
    model.graph.node.insert(0, helper.make_node("LeakyRelu", ["x"], ["bent"], alpha=0.9999))


def only_for_a_rare_index(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    def edit(array: np.ndarray) -> None:
        array[rng.integers(len(array))] *= np.float32(1.5)

    _weight(model, "table", edit)


def behind_argmax(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    def edit(array: np.ndarray) -> None:
        array.reshape(-1)[rng.integers(array.size)] *= np.float32(1.01)

    _weight(model, "wc", edit)


def order_of_outputs(model: onnx.ModelProto, _: np.random.Generator) -> None:
    a, b = _node(model, "first"), _node(model, "second")
    a.output[0], b.output[0] = "second", "first"


def float16_cast(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    node = _kind(model, "Conv", int(rng.integers(1, 3)))
    read, node.input[0] = node.input[0], "back"
    place = list(model.graph.node).index(node)
    model.graph.node.insert(place, helper.make_node("Cast", ["half"], ["back"], to=1))
    model.graph.node.insert(place, helper.make_node("Cast", [read], ["half"], to=10))


def _added(model: onnx.ModelProto, name: str, array: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _insert(model: onnx.ModelProto, makes: str, nodes: list[onnx.NodeProto]) -> None:
    """Put nodes behind that which makes an output; they read what it made as ``right``."""
    made = _node(model, makes)
    made.output[0] = "right"
    model.graph.node.extend(nodes)


FAULTS: dict[str, Callable[[onnx.ModelProto, np.random.Generator], None]] = {
    fault.__name__: fault
    for fault in (
        one_weight,
        one_tap,
        one_shift,
        channel_of_a_group,
        channels_of_a_group_rolled,
        pads,
        dilations,
        auto_pad,
        ceil_mode,
        epsilon,
        axis,
        dropped_relu,
        clip_at_60,
        branches_exchanged,
        constant_of_a_body,
        only_at_a_batch_of_7,
        only_for_negative_inputs,
        only_for_a_rare_index,
        behind_argmax,
        order_of_outputs,
        float16_cast,
    )
}


# --------------------------------------------------------------------------- judging


def verdict(a: Path, b: Path) -> str:
    """Return what a check says: by proof alone, or where that is inconclusive, by default."""
    alone = normswap.check(a, b, "proof")
    if alone.verdict is normswap.Verdict.DIFFERENT:
        return "different, by proof"
    if alone.is_proved:
        return "PROVED"
    report = normswap.check(a, b)
    if report.verdict is normswap.Verdict.EQUIVALENT:
        return "EQUIVALENT, TESTED"
    return f"{report.verdict.value}, by tests"


def passed(a: Path, b: Path, seed: int) -> dict[str, bool]:
    """Return which peers would call a pair equal, by their rules on one random input."""
    rng = np.random.default_rng(seed)
    feeds = {
        "x": rng.random((1, 6, SIDE, SIDE), np.float32),
        "flag": np.array([True]),
        "ids": rng.integers(0, ROWS, 1),
    }
    found = {}
    for peer, (rtol, atol, level) in PEERS.items():
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if level == "disabled":
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        one, other = (
            ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)
            for path in (a, b)
        )
        found[peer] = all(np.allclose(y, x, rtol, atol) for x, y in zip(one, other, strict=True))
    return found


def main() -> None:
    """Plant, judge, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=32, help="faults of each kind")
    parser.add_argument("--seed", type=int, default=0, help="that of the first weights")
    parser.add_argument("--kinds", nargs="*", default=list(FAULTS), choices=list(FAULTS))
    given = parser.parse_args()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory() as folder:
        a, b = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        for seed in range(given.seed, given.seed + given.count):
            onnx.save(network(seed), a)
            folded = normswap.fold(a, check=None).model
            onnx.save(folded, b)
            counts["(none: a right fold)"][
                "proved" if normswap.check(a, b, "proof").is_proved else "NOT PROVED"
            ] += 1
            for kind in given.kinds:
                wrong = onnx.ModelProto.FromString(folded.SerializeToString())
                FAULTS[kind](wrong, np.random.default_rng(seed))
                onnx.save(wrong, b)
                said = verdict(a, b)
                counts[kind][said] += 1
                fine = [peer for peer, equal in passed(a, b, seed).items() if equal]
                counts[kind].update(fine)
                print(f"{seed}: {kind}: {said}; equal to {', '.join(fine) or 'none'}", flush=True)
    columns = ["different, by proof", "different, by tests", "inconclusive, by tests"]
    columns += ["EQUIVALENT, TESTED", "PROVED"]
    head = [*columns, *(f"{peer}: equal" for peer in PEERS)]
    print(f"\n| fault | {' | '.join(head)} |\n|---|{'---:|' * len(head)}")
    for kind, found in counts.items():
        rest = found.keys() - set(head) - PEERS.keys()
        cells = [*columns, *PEERS]
        print(f"| {kind} | {' | '.join(str(found[cell]) for cell in cells)} | {', '.join(rest)}")


if __name__ == "__main__":
    main()

"""Every way to say that a BatchNormalization is in training mode, and what looks like one."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from support.build import Builder
from support.cli import invoke
from support.folding import assert_same_function, check_folds, check_kept, count, fold_model, run
from support.swapping import ops, swap_model

from normswap.errors import ModelError
from normswap.graph.batchnorm import is_batchnorm
from normswap.graph.build import build_network
from normswap.graph.mode import mode_of
from normswap.graph.reasons import Reason
from normswap.model import load
from normswap.workflows.recalibrate import recalibrate

C = 5
IN = ("y", "", "", "", "")
ALL = ("y", "mean", "var", "saved_mean", "saved_var")


def network(opset, outputs=("y",), *, read=None, **attrs):
    """A Conv and a BatchNormalization with outputs of given names, of which one more is read."""
    b = Builder(opset)
    x = b.conv(b.input(4, 3, 6, 6), 3, C)
    parameters = [b.const(v) for v in b.statistics(C)]
    if opset < 6:
        attrs["consumed_inputs"] = [0, 0, 0, 1, 1]
    b.nodes.append(helper.make_node("BatchNormalization", [x, *parameters], outputs, "bn", **attrs))
    b.output("y", (4, C, 4, 4))
    if read:
        b.output(read, (C,))
    graph = helper.make_graph(b.nodes, "g", b.inputs, b.outputs, b.initializers)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7 if opset < 15 else 8)


def mode(model):
    graphs = build_network(load(model.SerializeToString())).graphs
    (node,) = (node for graph in graphs for node in graph.nodes if is_batchnorm(node))
    return mode_of(node)


INFERENCE = [
    *((opset, ("y",), {}) for opset in (7, 8, 9, 12, 13, 14, 15, 17)),
    *((opset, ("y",), {"training_mode": 0}) for opset in (14, 17)),
    *((opset, IN, {}) for opset in (7, 9, 13)),  # all left out, as ONNX lets one write it
    (1, ("y",), {"is_test": 1}),
    (6, ("y",), {"is_test": 1}),
    (6, ALL, {"is_test": 1}),
    (9, ("y",), {"momentum": 0.5}),
]

TRAINING = [
    *((opset, ALL, {}) for opset in (7, 8, 9, 10, 11, 12, 13)),
    (9, ("y", "mean", "", "", ""), {}),
    (9, ("y", "", "", "", "saved_var"), {}),
    (9, ("y", "mean", "var"), {}),
    *((opset, ("y",), {}) for opset in (1, 6)),
    *((opset, ALL, {"is_test": 0}) for opset in (1, 6)),
    *((opset, ("y", "mean", "var"), {"training_mode": 1}) for opset in (14, 15, 17)),
    (17, ("y",), {"training_mode": 1}),
]


@pytest.mark.parametrize(("opset", "outputs", "attrs"), INFERENCE)
def test_inference(opset, outputs, attrs):
    found = mode(network(opset, outputs, **attrs))
    assert not found.is_training
    assert found.reason is None
    assert not found.why


@pytest.mark.parametrize(("opset", "outputs", "attrs"), TRAINING)
def test_training(opset, outputs, attrs):
    model = network(opset, outputs, **attrs)
    found = mode(model)
    assert found.is_training
    assert found.reason is Reason.TRAINING_MODE
    assert found.why
    assert found.used == ()
    plan = fold_model(model)[1]
    assert [entry.reason for entry in plan.kept] == [Reason.TRAINING_MODE]
    assert not plan.folded


@pytest.mark.parametrize("opset", [7, 9, 13])
@pytest.mark.parametrize("read", ALL[1:])
def test_training_whose_statistics_are_read(opset, read):
    model = network(opset, ALL, read=read)
    found = mode(model)
    assert found.reason is Reason.USED_STATISTICS
    assert found.used == (read,)
    check_kept(model, Reason.USED_STATISTICS, tensor=read)


@pytest.mark.parametrize("opset", [7, 8, 9, 12, 13])
@pytest.mark.parametrize("outputs", [("y",), ALL], ids=["one output", "five outputs"])
def test_the_runtime_goes_by_the_outputs_too(opset, outputs):
    model = network(opset, outputs)
    feeds = {"x": np.random.default_rng(0).normal(2, 3, (4, 3, 6, 6)).astype(np.float32)}
    x = run(select(model, model.graph.node[0].output[0]), feeds)[0].astype(np.float64)
    scale, bias, mean, var = (
        onnx.numpy_helper.to_array(t).astype(np.float64).reshape(1, -1, 1, 1)
        for t in model.graph.initializer[2:]
    )
    if mode(model).is_training:
        axes = (0, 2, 3)
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    want = scale * (x - mean) / np.sqrt(var + 1e-5) + bias
    np.testing.assert_allclose(run(model, feeds)[0], want, rtol=1e-4, atol=1e-4)


def select(model, name):
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    tapped.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    return tapped


def beside(opset):
    b = Builder(opset)
    x = b.bn(b.conv(b.input(4, 3, 6, 6), 3, C), C)
    parameters = [b.const(v) for v in b.statistics(4, positive=True)]
    y = b.conv(b.node("Relu", x), C, 4, kernel=(1, 1))
    return b.output(b.node("BatchNormalization", y, *parameters, outputs=5)[0]).model()


@pytest.mark.parametrize("opset", [7, 9, 13])
def test_one_in_training_beside_one_in_inference(opset):
    model = beside(opset)
    folded, plan = fold_model(model)
    assert count(folded) == 1
    assert [entry.reason for entry in plan.kept] == [Reason.TRAINING_MODE]
    assert_same_function(model, folded, tolerance=1e-5)


def test_twins_of_two_modes_are_not_one():
    b = Builder(9)
    y = b.conv(b.input(4, 3, 6, 6), 3, C)
    parameters = [b.const(v) for v in b.statistics(C)]
    b.output(b.node("BatchNormalization", y, *parameters))
    b.output(b.node("BatchNormalization", y, *parameters, outputs=5)[0])
    model = b.model()
    folded, plan = fold_model(model)
    assert count(folded) == 2
    assert {entry.reason for entry in plan.kept} == {
        Reason.TRAINING_MODE,
        Reason.SEVERAL_READERS,
    }
    assert folded == model


def test_a_scale_does_not_go_into_one_in_training_mode():
    b = Builder(9)
    x = b.bn(b.input(4, C, 6, 6), C)
    parameters = [b.const(v) for v in b.statistics(C, positive=True)]
    b.output(b.node("BatchNormalization", x, *parameters, outputs=5)[0])
    model = b.model()
    folded, plan = fold_model(model)
    assert folded == model
    assert Reason.TRAINING_MODE in {a.reason for entry in plan.kept for a in entry.attempts}


def test_what_all_outputs_left_out_folds():
    model = network(9, IN)
    folded, plan = fold_model(model)
    assert len(plan.folded) == 1
    del model.graph.node[1].output[1:]  # onnxruntime crashes on the empty names
    assert_same_function(model, folded)


@pytest.mark.parametrize("opset", [6, 13])
def test_inference_folds(opset):
    check_folds(network(opset, **({"is_test": 1} if opset < 7 else {})))


@pytest.mark.parametrize("arguments", [(), ("--no-check",)], ids=["checked", "not checked"])
def test_the_command_says_so(tmp_path, arguments):
    path, out = tmp_path / "model.onnx", tmp_path / "new.onnx"
    onnx.save(network(9, ALL), path)
    result = invoke("fold", path, "-o", out, *arguments)
    assert result.code == 0
    assert "1 kept" in result.text
    assert "training-mode" in result.text
    assert onnx.load(out) == onnx.load(path)


@pytest.mark.parametrize("arguments", [(), ("--no-check",)], ids=["checked", "not checked"])
def test_the_command_folds_the_one_in_inference(tmp_path, arguments):
    path, out = tmp_path / "model.onnx", tmp_path / "new.onnx"
    onnx.save(beside(8), path)
    result = invoke("fold", path, "-o", out, *arguments)
    assert result.code == 0, result.text
    assert "1 folded, 1 kept" in result.text
    assert "training-mode" in result.text
    assert_same_function(onnx.load(path), onnx.load(out), tolerance=1e-5)


# The other two that must know


@pytest.mark.parametrize("opset", [7, 9, 13])
def test_a_swap_leaves_the_batch_out_of_it(opset):
    """A group normalization has no statistics of its own, so the mode makes no difference to it."""
    swapped, plan = swap_model(network(opset, ALL), 1)
    assert len(plan.swaps) == 1
    assert "BatchNormalization" not in ops(swapped)
    with pytest.raises(ModelError, match="its output saved_mean is used"):
        swap_model(network(opset, ALL, read="saved_mean"), 1)


@pytest.mark.parametrize(
    ("opset", "outputs", "attrs", "training"),
    [
        (9, ALL, {}, True),
        (13, ("y",), {}, False),
        (9, IN, {}, False),
        (17, ("y", "mean", "var"), {"training_mode": 1}, True),
        (17, ("y",), {}, False),
    ],
)
def test_recalibrate_knows_what_it_freezes(tmp_path, opset, outputs, attrs, training):
    path, out = tmp_path / "model.onnx", tmp_path / "new.onnx"
    onnx.save(network(opset, outputs, **attrs), path)
    feeds = {"x": np.random.default_rng(0).normal(2, 3, (4, 3, 6, 6)).astype(np.float32)}
    report = recalibrate(path, [feeds], out, freeze=True).report
    assert [layer.frozen for layer in report.layers] == [training]
    node = onnx.load(out).graph.node[1]
    assert len(node.output) == 1
    assert not mode(onnx.load(out)).is_training
    ort.InferenceSession(out, providers=["CPUExecutionProvider"])

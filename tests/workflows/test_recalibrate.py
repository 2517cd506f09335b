"""New running statistics for BatchNormalization."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from support.build import Builder
from support.nodecases import node_cases
from support.swapping import distance, run_ort, tensor_of

from normswap.errors import ModelError
from normswap.groupnorm.recalibrate import RunningStatistics
from normswap.workflows.recalibrate import recalibrate


@settings(max_examples=50)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1e5]),
)
def test_cumulative_statistics_are_those_of_all_data(sizes, seed, offset):
    x = np.random.default_rng(seed).normal(size=(sum(sizes), 3)) + offset
    statistics = RunningStatistics(np.full(3, 7.0), np.full(3, 7.0), None)
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        part = x[end - size : end]
        statistics.add(part.mean(axis=0), part.var(axis=0), size)
    np.testing.assert_allclose(statistics.mean, x.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(statistics.var, x.var(axis=0), rtol=1e-6, atol=1e-9)


def test_momentum_is_that_of_onnx():
    # running = momentum * running + (1 - momentum) * current; PyTorch's is one minus that.
    statistics = RunningStatistics(np.array([10.0]), np.array([1.0]), 0.75)
    statistics.add(np.array([2.0]), np.array([5.0]), 100)
    assert statistics.mean == pytest.approx([8.0])
    assert statistics.var == pytest.approx([2.0])


def network(opset=17, *, training=False, dtype="float32", batch="N"):
    b = Builder(opset, dtype, seed=2)
    x = b.input(batch, 3, 6, 6)
    c_in = 3
    for number in range(2):
        x = b.conv(x, c_in, 4)
        parameters = [b.const(v) for v in b.statistics(4, positive=True)]
        attrs, outputs = {}, 1
        if training:
            attrs = {"training_mode": 1} if opset >= 14 else {}
            outputs = 3 if opset >= 14 else 5
        x = b.node(
            "BatchNormalization",
            x,
            *parameters,
            outputs=outputs,
            name=f"bn{number}",
            epsilon=1e-3,
            **attrs,
        )
        x = x if isinstance(x, str) else x[0]
        c_in = 4
    b.output(b.node("Relu", x, out="y"), [batch, 4, 2, 2])
    return b.model()


def data(count=3, size=8, dtype=np.float32):
    rng = np.random.default_rng(4)
    return [{"x": rng.normal(1, 2, (size, 3, 6, 6)).astype(dtype)} for _ in range(count)]


def statistics_of(model, name):
    node = next(n for n in model.graph.node if n.name == name)
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return values[node.input[3]], values[node.input[4]]


def run_recalibrate(tmp_path, model, batches, **options):
    source, target = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save(model, source)
    report = recalibrate(source, batches, target, overwrite=True, **options).report
    result = onnx.load(target)
    onnx.checker.check_model(result, full_check=True)
    return report, result


def by_hand(model, batches):
    """The activations before the first normalization, of all batches."""
    name = model.graph.node[0].output[0]
    return [tensor_of(model, name, **feeds).astype(np.float64) for feeds in batches]


@pytest.mark.parametrize("opset", [9, 13, 17, 21])
@pytest.mark.parametrize("training", [False, True])
def test_cumulative_estimate(tmp_path, opset, training):
    model = network(opset, training=training)
    batches = data()
    report, result = run_recalibrate(tmp_path, model, batches)
    x = np.concatenate(by_hand(model, batches))
    mean, var = statistics_of(result, "bn0")
    np.testing.assert_allclose(mean, x.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(var, x.var(axis=(0, 2, 3)), rtol=1e-5)
    assert report.samples == 24
    assert [layer.site.node for layer in report.layers] == ["bn0", "bn1"]
    assert report.layers[0].mean_shift > 0


def test_momentum_estimate(tmp_path):
    model = network()
    batches = data()
    _, result = run_recalibrate(tmp_path, model, batches, momentum=0.9)
    mean, var = (v.astype(np.float64) for v in statistics_of(model, "bn0"))
    for x in by_hand(model, batches):
        mean = 0.9 * mean + 0.1 * x.mean(axis=(0, 2, 3))
        var = 0.9 * var + 0.1 * x.var(axis=(0, 2, 3))
    new_mean, new_var = statistics_of(result, "bn0")
    np.testing.assert_allclose(new_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(new_var, var, rtol=1e-5)


TRAINING = [case for case in node_cases("BatchNormalization") if len(case[3]) == 3]


@pytest.mark.parametrize("case", TRAINING, ids=lambda case: case[0])
def test_agrees_with_the_onnx_node_cases_in_training_mode(tmp_path, case):
    _, attributes, (x, *parameters), (y, running_mean, running_var) = case
    b = Builder(15)
    names = [b.const(value) for value in parameters]
    operands = [b.input(*x.shape), *names]
    outputs = b.node("BatchNormalization", *operands, outputs=3, name="bn", out="y", **attributes)
    b.output(outputs[0], x.shape)
    model = b.model()
    momentum = attributes.get("momentum", 0.9)
    _, result = run_recalibrate(tmp_path, model, [{"x": x}], momentum=momentum)
    mean, var = statistics_of(result, "bn")
    np.testing.assert_allclose(mean, running_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var, running_var, rtol=1e-5, atol=1e-6)
    # With the statistics of the batch itself, inference gives what training gave.
    _, result = run_recalibrate(tmp_path, model, [{"x": x}], freeze=True)
    np.testing.assert_allclose(run_ort(result, x=x)[0], y, rtol=1e-4, atol=1e-5)


def test_there_are_node_cases_in_training_mode():
    assert len(TRAINING) >= 2


@pytest.mark.parametrize("opset", [9, 17])
def test_freezing_gives_the_inference_model_that_does_the_same(tmp_path, opset):
    model = network(opset, training=True)
    (batch,) = data(1, 32)
    report, result = run_recalibrate(tmp_path, model, [batch], freeze=True)
    assert all(layer.frozen for layer in report.layers)
    for node in result.graph.node:
        if node.op_type == "BatchNormalization":
            assert len(node.output) == 1
            assert "training_mode" not in [a.name for a in node.attribute]
    # On the data that it was frozen on, it computes what training mode does.
    x = batch["x"]
    inferred = run_ort(result, x=x)[0]
    if opset >= 14:  # onnxruntime runs training mode from here on
        assert distance(inferred, run_ort(model, x=x)[0]) < 1e-4
    # And what a sample gives no longer depends on the others.
    assert distance(run_ort(result, x=x[:1])[0], inferred[:1]) < 1e-5


def test_without_freezing_training_mode_stays(tmp_path):
    report, result = run_recalibrate(tmp_path, network(training=True), data(1))
    assert not any(layer.frozen for layer in report.layers)
    node = next(n for n in result.graph.node if n.op_type == "BatchNormalization")
    assert {a.name: a.i for a in node.attribute}["training_mode"] == 1


def test_half_precision(tmp_path):
    model = network(dtype="float16")
    batches = data(dtype=np.float16)
    _, result = run_recalibrate(tmp_path, model, batches)
    mean, _ = statistics_of(result, "bn0")
    assert mean.dtype == np.float16
    expected = np.concatenate(by_hand(model, batches)).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(mean.astype(np.float64), expected, rtol=2e-3, atol=2e-3)


def test_shared_statistics_are_split(tmp_path):
    model = network()
    first, second = (n for n in model.graph.node if n.op_type == "BatchNormalization")
    second.input[3] = first.input[3]
    _, result = run_recalibrate(tmp_path, model, data(1))
    assert not np.allclose(statistics_of(result, "bn0")[0], statistics_of(result, "bn1")[0])


def test_used_outputs_are_refused_when_freezing(tmp_path):
    model = network(training=True)
    mean = next(n for n in model.graph.node if n.name == "bn0").output[1]
    model.graph.output.append(onnx.helper.make_tensor_value_info(mean, onnx.TensorProto.FLOAT, [4]))
    with pytest.raises(ModelError, match=r"bn0: its output .* is used"):
        run_recalibrate(tmp_path, model, data(1), freeze=True)


def test_a_model_without_normalizations_is_refused(tmp_path):
    b = Builder()
    b.output(b.node("Relu", b.input("N", 3, 6, 6)), None)
    with pytest.raises(ModelError, match="no BatchNormalization") as caught:
        run_recalibrate(tmp_path, b.model(), data(1))
    assert "PRESERVE" in caught.value.tip


def test_statistics_that_are_not_finite_are_refused(tmp_path):
    batch = {"x": np.full((2, 3, 6, 6), np.inf, np.float32)}
    with pytest.raises(ModelError, match="not finite"):
        run_recalibrate(tmp_path, network(), [batch])
    assert not (tmp_path / "out.onnx").exists()


def test_statistics_computed_at_run_time_are_refused(tmp_path):
    b = Builder(17)
    x = b.input("N", 3, 6, 6)
    scale, bias, _, var = (b.const(v) for v in b.statistics(3))
    y = b.node("BatchNormalization", x, scale, bias, b.input(3, name="mean"), var, name="bn")
    b.output(y, None)
    with pytest.raises(ModelError, match="not constants"):
        run_recalibrate(tmp_path, b.model(), data(1))

"""New running statistics for BatchNormalization."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.build import Builder
from support.nodecases import node_cases
from support.onebatch import distance_to, statistics_of_one_batch
from support.swapping import distance, run_ort, tensor_of

from normswap.errors import ModelError, UsageError
from normswap.graph.build import build_network
from normswap.graph.mode import mode_of
from normswap.graph.reasons import Reason
from normswap.model import load
from normswap.workflows.recalibrate import STAYS, recalibrate


def test_momentum_is_that_of_onnx():
    # running = momentum * running + (1 - momentum) * current; PyTorch's is one minus that.
    b = Builder(17)
    stats = [b.const(v) for v in (np.ones(1), np.zeros(1), np.array([10.0]), np.array([1.0]))]
    y = b.node("BatchNormalization", b.input("N", 1), *stats, name="bn")
    b.output(y, None)
    x = np.array([[2 - 5**0.5], [2 + 5**0.5]], np.float32)  # of mean 2 and variance 5
    new = recalibrate(b.model(), [{"x": x}], momentum=0.75).model
    mean, var = statistics_of(new, "bn")
    assert mean == pytest.approx([8.0])
    assert var == pytest.approx([2.0])


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


def used(model, *names):
    for node in model.graph.node:
        if node.name in names:
            info = onnx.helper.make_tensor_value_info(node.output[1], onnx.TensorProto.FLOAT, [4])
            model.graph.output.append(info)
    return model


def test_used_outputs_are_refused_when_freezing(tmp_path):
    model = used(network(training=True), "bn0", "bn1")
    with pytest.raises(ModelError, match=r"bn0: its output .* is used"):
        run_recalibrate(tmp_path, model, data(1), freeze=True)
    assert not (tmp_path / "out.onnx").exists()
    with pytest.raises(ModelError, match=r"bn0: its output .* is used"):
        recalibrate(model, freeze=True)


def test_one_layer_that_can_not_be_frozen_is_kept(tmp_path):
    model = used(network(training=True), "bn0")
    batches = data()
    report, result = run_recalibrate(tmp_path, model, batches, freeze=True)
    (kept,) = report.untouched
    assert (kept.site.node, kept.reason) == ("bn0", Reason.USED_STATISTICS)
    first, second = (n for n in result.graph.node if n.op_type == "BatchNormalization")
    assert (len(first.output), len(second.output)) == (3, 1)
    assert np.array_equal(statistics_of(result, "bn0"), statistics_of(model, "bn0"))
    assert distance(statistics_of(result, "bn1"), statistics_of(model, "bn1")) > 0.1


def test_statistics_that_are_read_stay_those_of_the_batch(tmp_path):
    model = used(network(training=True), "bn0")
    report, result = run_recalibrate(tmp_path, model, data())
    assert not report.untouched
    truth = statistics_of_one_batch(network(), {"x": np.concatenate([f["x"] for f in data()])})
    assert distance_to(result, truth) < 1e-5


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


def test_batches_of_one_do_not_normalize_deeper_layers_to_nothing(tmp_path):
    model, batches = network(batch=1), [{"x": np.concatenate([f["x"] for f in data()])}]
    truth = statistics_of_one_batch(network(), batches[0])
    _, result = run_recalibrate(tmp_path, model, batches)
    assert distance_to(result, truth) < 1e-5
    assert distance_to(model, truth) > 0.5


@pytest.mark.parametrize("training", [False, True])
def test_training_or_not_the_statistics_are_the_same(training):
    model, batches = network(training=training), data()
    truth = statistics_of_one_batch(network(), {"x": np.concatenate([f["x"] for f in batches])})
    assert distance_to(recalibrate(model, batches).model, truth) < 1e-5


def test_sizes_that_onnx_counts_otherwise():
    """Statistics are of the elements that there are, whatever ONNX infers behind ``ceil_mode``."""
    b = Builder(12, seed=1)
    pooled = b.node(
        "AveragePool",
        b.input("N", 4, 4, 5),
        kernel_shape=[2, 1],
        strides=[2, 3],
        ceil_mode=1,
        out="pooled",
    )
    y = b.bn(pooled, 4, name="bn0", epsilon=1e-3)
    b.output(b.node("Sigmoid", y), None)
    x = np.random.default_rng(0).normal(1, 2, (7, 4, 4, 5)).astype(np.float32)
    model = b.model()
    seen = tensor_of(model, "pooled", x=x).astype(np.float64)
    mean, var = statistics_of(recalibrate(model, [{"x": x[:3]}, {"x": x[3:]}]).model, "bn0")
    np.testing.assert_allclose(mean, seen.mean(axis=(0, 2, 3)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(var, seen.var(axis=(0, 2, 3)), rtol=1e-6)


# --- layers that are used twice -------------------------------------------------------


def siamese(opset=17, *, statistics_only=False, where="main"):
    """Two branches of the same two layers, and their difference."""
    b = Builder(opset, seed=3)
    weights = [b.normal(4, 3, 3, 3), b.normal(5, 4, 1, 1)]
    stats = [[b.const(v) for v in b.statistics(c, positive=True)] for c in (4, 5)]
    results = []
    for name in ("one", "two"):
        y = b.input("N", 3, 6, 6, name=name)
        for number, (weight, shared) in enumerate(zip(weights, stats, strict=True)):
            size = (4, 5)[number]
            own = [b.normal(size), b.normal(size)] if statistics_only else []
            given = [*own, *shared[len(own) :]]
            y = b.node("Conv", y, weight)
            y = b.node("BatchNormalization", y, *given, name=f"{name}{number}", epsilon=1e-3)
            y = b.node("Relu", y) if not number else y
        results.append(y)
    b.output(b.node("Sub", *results), None)
    return b.model()


def pairs(count=12):
    rng = np.random.default_rng(7)
    return {
        "one": rng.normal(0, 1, (count, 3, 6, 6)).astype(np.float32),
        "two": rng.normal(2, 3, (count, 3, 6, 6)).astype(np.float32),
    }


@pytest.mark.parametrize("batch", [1, 5, 12])
@pytest.mark.parametrize("statistics_only", [False, True])
def test_a_layer_that_is_used_twice_is_one(batch, statistics_only):
    model, feeds = siamese(statistics_only=statistics_only), pairs()
    batches = [{k: v[i : i + batch] for k, v in feeds.items()} for i in range(0, 12, batch)]
    result = recalibrate(model, batches)
    new = result.model
    assert [(e.site.node, [s.node for s in e.shared]) for e in result.report.layers] == [
        ("one0", ["two0"]),
        ("one1", ["two1"]),
    ]
    # All nodes go on reading the same initializers, under the same names.
    assert [list(n.input) for n in new.graph.node] == [list(n.input) for n in model.graph.node]
    nodes = {n.name: n for n in new.graph.node}
    for number in (0, 1):
        seen = [
            np.moveaxis(tensor_of(new, nodes[f"{name}{number}"].input[0], **feeds), 1, 0)
            for name in ("one", "two")
        ]
        pooled = np.concatenate([v.reshape(len(v), -1) for v in seen], axis=1).astype(np.float64)
        mean, var = statistics_of(new, f"one{number}")
        np.testing.assert_allclose(mean, pooled.mean(axis=1), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(var, pooled.var(axis=1), rtol=1e-5)
    if not statistics_only:
        same = run_ort(new, one=feeds["two"], two=feeds["two"])[0]
        assert not same.any()


def test_trivial_statistics_that_a_tool_has_shared_are_of_several_layers():
    """All layers have the very mean 0 and variance 1; their scales tell them apart."""
    b = Builder(17, seed=3)
    zero, one = b.const(np.zeros(4)), b.const(np.ones(4))
    x = b.input("N", 3, 6, 6)
    for number, channels in enumerate((3, 4)):
        x = b.conv(x, channels, 4)
        scale, bias = (b.const(v) for v in b.statistics(4, positive=True)[:2])
        given = [x, scale, bias, zero, one]
        x = b.node("BatchNormalization", *given, name=f"bn{number}", epsilon=1e-3)
    b.output(b.node("Relu", x), None)
    model, batches = b.model(), data()
    truth = statistics_of_one_batch(model, {"x": np.concatenate([f["x"] for f in batches])})
    result = recalibrate(model, batches)
    assert len(result.report.layers) == 2
    assert distance_to(result.model, truth) < 1e-5


@pytest.mark.parametrize("shared", ["statistics", "all"])
def test_statistics_behind_an_identity(shared):
    """One layer if scale and B are the same tensors; else two that a tool found to be equal."""
    model, feeds = siamese(), pairs()
    for node in [n for n in model.graph.node if n.name.startswith("two") and len(n.input) == 5]:
        for slot in range(5) if shared == "all" else (3, 4):
            if not slot:
                continue
            name = f"{node.name}_{slot}"
            identity = onnx.helper.make_node("Identity", [node.input[slot]], [name])
            node.input[slot] = name
            model.graph.node.insert(0, identity)
    result = recalibrate(model, [feeds])
    first, *_ = result.report.layers
    assert [site.node for site in first.shared] == (["two0"] if shared == "statistics" else [])
    assert len(result.report.layers) == (2 if shared == "statistics" else 4)
    same = run_ort(result.model, one=feeds["two"], two=feeds["two"])[0]
    assert same.any() == (shared == "all")


def test_one_use_that_is_excluded_keeps_what_it_reads():
    model, feeds = siamese(), pairs()
    result = recalibrate(model, [feeds], exclude=["two*"])
    old, new = statistics_of(model, "one0"), statistics_of(result.model, "two0")
    assert np.array_equal(old, new)
    assert distance(statistics_of(result.model, "one0"), old) > 0.1
    assert {entry.reason for entry in result.report.untouched} == {Reason.EXCLUDED}


# --- what is selected, and what is kept -----------------------------------------------


def test_include_and_exclude():
    model, batches = network(), data()
    for options in ({"include": ["bn1"]}, {"exclude": ["bn0"]}):
        result = recalibrate(model, batches, **options)
        assert [layer.site.node for layer in result.report.layers] == ["bn1"]
        assert [entry.site.node for entry in result.report.untouched] == ["bn0"]
        # The layer that keeps its statistics normalizes by them, and what is behind it sees that.
        x = np.concatenate([feeds["x"] for feeds in batches])
        truth = statistics_of_one_batch(model, {"x": x}, nodes=["bn1"])
        mean, var = statistics_of(result.model, "bn1")
        np.testing.assert_allclose(mean, truth["bn1"][0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(var, truth["bn1"][1], rtol=1e-5)
    with pytest.raises(UsageError, match="matches the pattern 'nonsense'"):
        recalibrate(model, batches, include=["nonsense"])
    with pytest.raises(ModelError, match="bn0: excluded by"):
        recalibrate(model, batches, exclude=["bn*"])


def test_initializers_that_a_caller_may_replace():
    model, batches = network(13), data()
    for tensor in model.graph.initializer:
        info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(info)
    with pytest.raises(ModelError, match="its mean or variance is a graph input") as caught:
        recalibrate(model, batches)
    assert "--assume-constant" in caught.value.tip
    new = recalibrate(model, batches, assume_constant=True).model
    assert [info.name for info in new.graph.input] == [info.name for info in model.graph.input]
    plain = recalibrate(network(13), batches).model
    for name in ("bn0", "bn1"):
        np.testing.assert_allclose(statistics_of(new, name), statistics_of(plain, name), rtol=1e-6)


def instance_norm(channels=4, batch=2, *, source="N", transposed=False):
    """Training-mode BatchNormalization with the batch in its channels."""
    b = Builder(17, seed=2)
    x = b.input(batch if source == "fixed" else "N", channels, 6, 6)
    y = b.conv(x, channels, channels, pads=[1] * 4)
    if transposed:
        y = b.node("Transpose", y, perm=[0, 1, 3, 2])
    y = b.node("Reshape", y, b.const(np.array([1, batch * channels, 6, 6])))
    scale, bias = b.const(np.ones(batch * channels)), b.const(np.zeros(batch * channels))
    stats = [b.const(v) for v in b.statistics(batch * channels)[2:]]
    given = [y, scale, bias, *stats]
    y = b.node("BatchNormalization", *given, outputs=3, training_mode=1, name="instance")[0]
    y = b.node("Reshape", y, b.const(np.array([batch, channels, 6, 6])))
    b.output(b.bn(y, channels, name="behind", epsilon=1e-3), None)
    return b.model()


@pytest.mark.parametrize("source", ["fixed", "N"])
@pytest.mark.parametrize("transposed", [False, True])
def test_statistics_of_places_in_the_batch_are_not_frozen(source, transposed):
    model = instance_norm(source=source, transposed=transposed)
    x = np.random.default_rng(0).normal(size=(6, 4, 6, 6)).astype(np.float32)
    batches = [{"x": x[i : i + 2]} for i in range(0, 6, 2)]
    result = recalibrate(model, batches, freeze=True)
    (kept,) = result.report.untouched
    assert (kept.site.node, kept.reason) == ("instance", Reason.NO_SAMPLES)
    assert "statistics per sample and not per channel" in kept.detail
    nodes = {n.name: n for n in result.model.graph.node}
    assert nodes["instance"] == {n.name: n for n in model.graph.node}["instance"]
    # A sample's result does not depend on its place.
    swapped = run_ort(result.model, x=x[:2][::-1])[0][::-1]
    assert distance(run_ort(result.model, x=x[:2])[0], swapped) < 1e-5
    with pytest.raises(ModelError, match="statistics per sample and not per channel"):
        recalibrate(instance_norm(), freeze=True, include=["instance"])


def computed_instance_norm():
    """The same with sizes that are computed, so that nobody knows that axis 0 is 1."""
    b = Builder(17, seed=2)
    y = b.conv(b.input("N", 4, 6, 6), 4, 4, pads=[1] * 4)
    sizes = b.input(4, name="sizes", elem_type=onnx.TensorProto.INT64)
    y = b.node("Reshape", y, sizes)
    scale, bias = b.const(np.ones(8)), b.const(np.zeros(8))
    given = [y, scale, bias, *[b.const(v) for v in b.statistics(8)[2:]]]
    y = b.node("BatchNormalization", *given, outputs=3, training_mode=1, name="instance")[0]
    y = b.node("Reshape", y, b.const(np.array([2, 4, 6, 6])), out="x_of_bn")
    b.output(b.bn(y, 4, name="behind", epsilon=1e-3), None)
    return b.model()


@pytest.mark.parametrize("momentum", [None, 0.5])
def test_places_in_the_batch_are_found_by_turning_it_round(momentum):
    model = computed_instance_norm()
    x = np.random.default_rng(0).normal(size=(6, 4, 6, 6)).astype(np.float32)
    sizes = np.array([1, 8, 6, 6])
    batches = [{"x": x[i : i + 2], "sizes": sizes} for i in range(0, 6, 2)]
    result = recalibrate(model, batches, freeze=True, momentum=momentum)
    (kept,) = result.report.untouched
    assert (kept.site.node, kept.reason) == ("instance", Reason.NO_SAMPLES)
    if momentum is None:  # what is behind it sees what it makes in training mode
        seen = [tensor_of(result.model, "x_of_bn", **feeds) for feeds in batches]
        mean, var = statistics_of(result.model, "behind")
        seen = np.concatenate(seen).astype(np.float64)
        np.testing.assert_allclose(mean, seen.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(var, seen.var(axis=(0, 2, 3)), rtol=1e-4)


def test_samples_that_lie_in_space_are_no_channels():
    b = Builder(17, seed=2)
    y = b.node("Transpose", b.input("N", 4, 6, 6), perm=[1, 0, 2, 3])
    sizes = b.input(4, name="sizes", elem_type=onnx.TensorProto.INT64)
    y = b.node("Reshape", y, sizes, out="x_of_bn")
    b.output(b.bn(y, 4, name="bn", epsilon=1e-3), None)
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)
    feeds = {"x": x, "sizes": np.array([1, 4, 2, 36])}
    result = recalibrate(b.model(), [feeds])
    assert not result.report.untouched
    mean, _ = statistics_of(result.model, "bn")
    np.testing.assert_allclose(mean, x.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [[-1, 8, 3, 3], [-1, 4, 36], [2, 16, 3, 3]])
def test_a_reshape_that_keeps_the_samples_apart_is_none(shape):
    b = Builder(17, seed=2)
    y = b.node("Reshape", b.input(2, 4, 6, 6), b.const(np.array(shape)))
    b.output(b.bn(y, shape[1], name="bn", epsilon=1e-3), None)
    x = np.random.default_rng(0).normal(size=(6, 4, 6, 6)).astype(np.float32)
    assert not recalibrate(b.model(), {"x": x}).report.untouched


def test_an_image_without_a_batch_gets_one():
    b = Builder(17, seed=2)
    y = b.node("Unsqueeze", b.input(4, 6, 6), b.const(np.array([0])))
    b.output(b.bn(y, 4, name="bn", epsilon=1e-3), None)
    x = np.random.default_rng(0).normal(size=(4, 6, 6)).astype(np.float32)
    result = recalibrate(b.model(), [{"x": x}])
    np.testing.assert_allclose(
        statistics_of(result.model, "bn")[0], x.mean(axis=(1, 2)), rtol=1e-5, atol=1e-5
    )


def test_a_standardized_weight_has_no_samples():
    b = Builder(17, seed=2)
    weight = b.node("Reshape", b.normal(4, 3, 3, 3), b.const(np.array([1, 4, -1])))
    stats = [b.const(v) for v in b.statistics(4, positive=True)]
    weight = b.node("BatchNormalization", weight, *stats, outputs=3, training_mode=1, name="w")[0]
    weight = b.node("Reshape", weight, b.const(np.array([4, 3, 3, 3])))
    y = b.node("Conv", b.input("N", 3, 6, 6), weight, out="x_of_bn")
    b.output(b.bn(y, 4, name="bn", epsilon=1e-3), None)
    model, batches = b.model(), data()
    result = recalibrate(model, batches)
    (kept,) = result.report.untouched
    assert (kept.site.node, kept.reason) == ("w", Reason.CONSTANT)
    x = np.concatenate([feeds["x"] for feeds in batches])
    seen = tensor_of(model, "x_of_bn", x=x).astype(np.float64)
    mean = statistics_of(result.model, "bn")[0]
    np.testing.assert_allclose(mean, seen.mean(axis=(0, 2, 3)), rtol=1e-5, atol=1e-5)


# --- freezing without data ------------------------------------------------------------


@pytest.mark.parametrize("opset", [6, 9, 13, 17, 21])
def test_freezing_without_data_keeps_every_bit(tmp_path, opset):
    model = network(opset, training=True)
    if opset == 6:
        for node in model.graph.node:
            if node.op_type == "BatchNormalization":
                node.attribute.append(onnx.helper.make_attribute("is_test", 0))
    onnx.save(model, tmp_path / "model.onnx")
    report = recalibrate(tmp_path / "model.onnx", None, tmp_path / "out.onnx", freeze=True).report
    result = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(result, full_check=True)
    assert [layer.frozen for layer in report.layers] == [True, True]
    assert report.samples == 0
    assert list(result.graph.initializer) == list(model.graph.initializer)
    network_of = build_network(load(tmp_path / "out.onnx"))
    nodes = [node for node in network_of.nodes() if node.op == "BatchNormalization"]
    assert not any(mode_of(node).is_training for node in nodes)
    assert all(len(node.outputs) == 1 for node in nodes)
    if opset > 6:  # which onnxruntime does not run
        feeds = data(1)[0]
        expected = run_ort(network(opset), **feeds)[0]
        assert np.array_equal(run_ort(result, **feeds)[0], expected)


def test_what_is_in_inference_mode_already_is_left_alone(tmp_path):
    onnx.save(network(), tmp_path / "model.onnx")
    result = recalibrate(tmp_path / "model.onnx", None, tmp_path / "out.onnx", freeze=True)
    assert result.report.layers == result.report.untouched == ()
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


@pytest.mark.parametrize("trains", [False, True])
def test_a_dropout_that_stays_in_training_mode_is_told(trains):
    b = Builder(17, seed=2)
    x = b.input("N", 3, 6, 6)
    y = b.bn(x, 3, name="bn", epsilon=1e-3)
    ratio, mode = b.const(np.float32(0.5)), b.const(np.array(trains))
    b.output(b.node("Dropout", y, ratio, mode, name="drop"), None)
    notes = [f"drop: {STAYS}"] * trains
    assert list(recalibrate(b.model(), freeze=True).report.notes) == notes
    assert list(recalibrate(b.model(), data(1), freeze=True).report.notes) == notes
    assert recalibrate(b.model(), data(1)).report.notes == ()


def test_freezing_to_the_statistics_of_no_data_is_told():
    model = network(training=True)
    assert recalibrate(model, freeze=True).report.notes == ()
    node = next(n for n in model.graph.node if n.name == "bn1")
    for tensor in model.graph.initializer:
        if tensor.name in node.input[3:]:
            values = np.full(4, float(tensor.name == node.input[4]), np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    (note,) = recalibrate(model, freeze=True).report.notes
    assert note == (
        "bn1: mean 0 and variance 1, as before training: the statistics were probably never "
        "estimated"
    )


@pytest.mark.parametrize(("slot", "value"), [(3, np.nan), (4, np.inf), (4, -1.0)])
def test_statistics_to_which_nothing_can_be_frozen(slot, value):
    model = network(training=True)
    node = next(n for n in model.graph.node if n.name == "bn0")
    tensor = next(t for t in model.graph.initializer if t.name == node.input[slot])
    values = numpy_helper.to_array(tensor).copy()
    values[1] = value
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    (kept,) = recalibrate(model, freeze=True).report.untouched
    assert kept.site.node == "bn0"
    assert kept.reason is (Reason.INVALID_STATISTICS if value == -1 else Reason.NON_FINITE)


def test_without_data_there_is_only_freezing():
    with pytest.raises(UsageError, match="no data") as caught:
        recalibrate(network(training=True))
    assert "--freeze" in caught.value.tip
    for option in ({"momentum": 0.9}, {"samples": 3}):
        with pytest.raises(UsageError, match="has no effect without data"):
            recalibrate(network(training=True), freeze=True, **option)

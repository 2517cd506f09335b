"""Calibration: moments, least squares, the order of layers, the search for groups."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from support.build import Builder
from support.functions import Body
from support.swapping import run_ort, swap_model, swap_options, tensor_of

from normswap.check.options import CheckOptions
from normswap.groupnorm.calibrate import CalibrationOptions, PairMoments, calibrate
from normswap.groupnorm.planner import plan_swap
from normswap.groupnorm.reference import normalize
from normswap.groupnorm.refit import judge
from normswap.model import load
from normswap.progress import silent
from normswap.workflows.swap import swap

pytestmark = pytest.mark.usefixtures("sessions_in_process")


def plan_of(path):
    return plan_swap(load(path), swap_options(2))


# --- moments --------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1e4, -1e6]),
)
def test_batches_of_any_size_give_the_least_squares_of_the_whole(sizes, seed, offset):
    rng = np.random.default_rng(seed)
    n = rng.normal(size=(sum(sizes), 3, 4)) + offset
    z = 2.5 * n + rng.normal(size=n.shape)
    moments = PairMoments(3)
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        moments.add(n[end - size : end], z[end - size : end])
    scale, bias = moments.fit()
    for channel in range(3):
        x, y = n[:, channel].ravel() - offset, z[:, channel].ravel()
        design = np.stack([x, np.ones_like(x)], axis=1)
        (slope, intercept), *_ = np.linalg.lstsq(design, y, rcond=None)
        assert scale[channel] == pytest.approx(slope, rel=1e-6, abs=1e-6)
        # Compared where the data is: far from it, a line's last digits are its slope's.
        at_offset = scale[channel] * offset + bias[channel]
        assert at_offset == pytest.approx(intercept, rel=1e-6, abs=1e-5)
    residual = z - scale[:, None] * n - bias[:, None]
    assert moments.loss == pytest.approx(float(np.square(residual).sum()), rel=1e-5, abs=1e-6)


def test_a_channel_that_never_varies_gets_the_mean():
    moments = PairMoments(2)
    n = np.zeros((4, 2, 3))
    n[:, 1] = np.arange(12.0).reshape(4, 3)
    z = np.arange(24.0).reshape(4, 2, 3)
    moments.add(n, z)
    scale, bias = moments.fit()
    assert scale[0] == 0
    assert bias[0] == z[:, 0].mean()
    assert np.isfinite(scale).all()


def test_a_perfect_fit_has_no_loss():
    moments = PairMoments(2)
    n = np.random.default_rng(0).normal(size=(8, 2, 5))
    moments.add(n, 3 * n - 1)
    np.testing.assert_allclose(moments.fit(), [[3, 3], [-1, -1]], rtol=1e-12)
    assert moments.loss < 1e-9


# --- whole networks -------------------------------------------------------------------


def deep_network(dtype="float32"):
    b = Builder(17, dtype, seed=3)
    x = b.input("N", 3, 8, 8)
    c_in = 3
    for number in range(3):
        stats = (np.full(8, 1.0), np.linspace(-1, 1, 8), np.zeros(8), np.linspace(0.5, 4, 8))
        x = b.conv(x, c_in, 8, pads=[1, 1, 1, 1])
        x = b.bn(x, 8, stats=stats, name=f"bn{number}", out=f"bn{number}", epsilon=1e-5)
        x = b.node("Relu", x)
        c_in = 8
    pooled = b.node("Flatten", b.node("GlobalAveragePool", x))
    b.output(b.node("Gemm", pooled, b.normal(8, 4), out="y"), None)
    return b.model()


def batches(count=4, size=8, dtype=np.float32):
    rng = np.random.default_rng(9)
    return [{"x": rng.normal(0.5, 1, size=(size, 3, 8, 8)).astype(dtype)} for _ in range(count)]


def test_one_layer_gets_the_least_squares_affine(tmp_path):
    b = Builder(17)
    stats = b.statistics(8)
    b.output(b.bn(b.input("N", 8, 6, 6), 8, stats=stats, epsilon=1e-5, out="y"), None)
    model = b.model()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    data = [{"x": b.rng.normal(2, 3, size=(5, 8, 6, 6)).astype(np.float32)} for _ in range(3)]
    for one_pass in (False, True):
        how = CalibrationOptions(one_pass=one_pass)
        found = calibrate(path, plan_of(path), data, how, silent)["", "y"]
        x = np.concatenate([feeds["x"] for feeds in data])
        n = normalize(x, num_groups=2, epsilon=1e-5)
        z = run_ort(model, x=x)[0].astype(np.float64)
        for channel in range(8):
            slope, intercept = np.polyfit(n[:, channel].ravel(), z[:, channel].ravel(), 1)
            assert found.scale[channel] == pytest.approx(slope, rel=1e-4, abs=1e-5)
            assert found.bias[channel] == pytest.approx(intercept, rel=1e-4, abs=1e-5)


def outputs_error(model, found, groups, data):
    swapped, _ = swap_model(model, groups, affines=found)
    x = np.concatenate([feeds["x"] for feeds in data])
    return float(np.square(run_ort(swapped, x=x)[0] - run_ort(model, x=x)[0]).mean())


def test_calibration_brings_the_network_nearer(tmp_path):
    model = deep_network()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    data = batches()
    plain = outputs_error(model, {}, 2, data)
    for one_pass in (False, True):
        how = CalibrationOptions(one_pass=one_pass)
        found = calibrate(path, plan_of(path), data, how, silent)
        assert set(found) == {("", "bn0"), ("", "bn1"), ("", "bn2")}
        assert outputs_error(model, found, 2, data) < plain / 4


def test_layers_are_fitted_with_those_before_them_in_place(tmp_path):
    """The last layer's fit is the least squares in the network whose other layers are fitted."""
    model = deep_network()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    data = batches()
    found = calibrate(
        path, plan_swap(load(path), swap_options(2)), data, CalibrationOptions(), silent
    )
    before = {name: affine for name, affine in found.items() if name != ("", "bn2")}
    swapped, _ = swap_model(model, 2, affines=before)
    last = next(node for node in model.graph.node if node.name == "bn2")
    feed = np.concatenate([feeds["x"] for feeds in data])
    n = normalize(tensor_of(swapped, last.input[0], x=feed), num_groups=2, epsilon=1e-5)
    z = tensor_of(model, "bn2", x=feed)
    slopes = [np.polyfit(n[:, c].ravel(), z[:, c].ravel(), 1)[0] for c in range(8)]
    np.testing.assert_allclose(found["", "bn2"].scale, slopes, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("one_pass", [False, True])
def test_the_search_for_groups_never_fits_worse(tmp_path, one_pass):
    model = deep_network()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    data = batches(2)
    how = CalibrationOptions(one_pass=one_pass, search_groups=True)
    found = calibrate(path, plan_of(path), data, how, silent)
    assert all(8 % affine.num_groups == 0 for affine in found.values())
    # The first layer sees the same in all networks, so there the choice must be the best.
    losses = {}
    for groups in (1, 2, 4, 8):
        moments = PairMoments(8)
        for feeds in data:
            x = tensor_of(model, model.graph.node[0].output[0], **feeds)
            z = tensor_of(model, "bn0", **feeds)
            moments.add(normalize(x, num_groups=groups, epsilon=1e-5), z)
        losses[groups] = moments.loss
    assert found["", "bn0"].num_groups == min(losses, key=losses.get)


@pytest.mark.parametrize("dtype", ["float16"])
def test_half_precision_is_calibrated(tmp_path, dtype):
    model = deep_network(dtype)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    data = batches(2, dtype=np.float16)
    found = calibrate(
        path, plan_swap(load(path), swap_options(2)), data, CalibrationOptions(), silent
    )
    assert outputs_error(model, found, 2, data) < outputs_error(model, {}, 2, data)


def test_a_swap_with_calibration(tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "FEW", 0)  # what few samples are not sure of is fitted too
    path, target = tmp_path / "model.onnx", tmp_path / "model.gn.onnx"
    onnx.save(deep_network(), path)
    report = swap(
        path,
        target,
        swap_options(2),
        check=CheckOptions(),
        data=batches(),
        calibration=CalibrationOptions(),
    ).report
    fitted = {step.layer for step in report.fit.steps if step.kind == "affine"}
    assert fitted
    assert report.calibrated == 3
    assert [step.layer for step in report.fit.steps if step.kind == "affines"] == [
        "3 layers together"
    ]
    assert report.check.exit_code == 0
    assert target.exists()
    before, after = report.uncalibrated, report.check.drift
    assert after.outputs["y"].snr > before.outputs["y"].snr + 3
    assert all(after.layers[name].snr > before.layers[name].snr for name in fitted)
    assert not report.fit.unfitted
    assert report.to_dict()["drift_before_calibration"]["layers"].keys() == after.layers.keys()


# --- layers that are used twice ---------------------------------------------------------


def siamese():
    """Two branches of the same two layers, and their difference."""
    b = Builder(17, seed=3)
    layers = [
        (b.normal(8, 3, 3, 3), [b.const(v) for v in b.statistics(8, positive=True)]),
        (b.normal(8, 8, 1, 1), [b.const(v) for v in b.statistics(8, positive=True)]),
    ]
    results = []
    for name in ("one", "two"):
        y = b.input("N", 3, 8, 8, name=name)
        for number, (weight, stats) in enumerate(layers):
            y = b.node("Conv", y, weight)
            bn = f"{name}{number}"
            y = b.node("BatchNormalization", y, *stats, name=bn, out=bn)
            y = b.node("Relu", y)
        results.append(y)
    b.output(b.node("Sub", *results, out="y"), None)
    return b.model()


@pytest.mark.parametrize(
    "how",
    [
        CalibrationOptions(),
        CalibrationOptions(one_pass=True),
        CalibrationOptions(search_groups=True),
        CalibrationOptions(one_pass=True, search_groups=True),
    ],
)
def test_a_layer_that_is_used_twice_gets_one_affine(tmp_path, how):
    model = siamese()
    for node in [n for n in model.graph.node if n.name.startswith("two")]:  # by other names
        for slot in (3, 4):
            if len(node.input) == 5:
                name = f"{node.name}_{slot}"
                identity = onnx.helper.make_node("Identity", [node.input[slot]], [name])
                node.input[slot] = name
                model.graph.node.insert(0, identity)
    onnx.save(model, tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    one, two = (rng.normal(m, 1 + m, (12, 3, 8, 8)).astype(np.float32) for m in (0, 2))
    data = [{"one": one[i : i + 4], "two": two[i : i + 4]} for i in range(0, 12, 4)]
    found = calibrate(tmp_path / "model.onnx", plan_of(tmp_path / "model.onnx"), data, how, silent)
    for number in (0, 1):
        first, second = found["", f"one{number}"], found["", f"two{number}"]
        assert first is second
    swapped, _ = swap_model(model, 2, affines=found)
    assert not run_ort(swapped, one=two, two=two)[0].any()
    # It is the least squares of both uses together.
    x = [
        tensor_of(model, node.input[0], one=one, two=two)
        for node in model.graph.node
        if node.name in ("one0", "two0")
    ]
    z = [tensor_of(model, name, one=one, two=two) for name in ("one0", "two0")]
    groups = found["", "one0"].num_groups or 2
    n = np.concatenate([normalize(v, num_groups=groups, epsilon=1e-5) for v in x])
    z = np.concatenate(z).astype(np.float64)
    for channel in range(8):
        slope, intercept = np.polyfit(n[:, channel].ravel(), z[:, channel].ravel(), 1)
        assert found["", "one0"].scale[channel] == pytest.approx(slope, rel=1e-3, abs=1e-4)
        assert found["", "one0"].bias[channel] == pytest.approx(intercept, rel=1e-3, abs=1e-4)


# --- layers in functions and bodies -----------------------------------------------------


def inside(kind):
    """Two calls of a function with a normalization, or two turns of a body with one."""
    b = Builder(17, seed=3)
    one, two = (b.input("N", 8, 4, 4, name=name) for name in ("one", "two"))
    scales = [b.rng.uniform(1, 2, 8).astype(np.float32)] * 2
    if kind == "handed":
        scales[1] = scales[1] + 1
    bias, mean, var = (np.full(8, value, np.float32) for value in (0.5, 0, 1))
    if kind == "scan":
        stats = [b.const(values) for values in (scales[0], bias, mean, var)]
        node = helper.make_node("BatchNormalization", ["row", *stats], ["z"], epsilon=1e-5)
        image = [helper.make_tensor_value_info(name, 1, ("N", 8, 4, 4)) for name in ("row", "z")]
        body = helper.make_graph([node], "body", image[:1], image[1:])
        rows = [b.node("Unsqueeze", x, b.const(np.int64([0]))) for x in (one, two)]
        rows = b.node("Concat", *rows, axis=0)
        b.output(b.node("Scan", rows, body=body, num_scan_inputs=1, out="y"), None)
        return b.model(), scales
    body = Body(b, "Norm", ["a", *(["scale", "B"] if kind == "handed" else [])])
    affine = body.inputs[1:] or [body.const(scales[0]), body.const(bias)]
    stats = [body.const(values) for values in (mean, var)]
    body.returns(body.node("BatchNormalization", "a", *affine, *stats, epsilon=1e-5))
    calls = []
    for x, scale in zip((one, two), scales, strict=True):
        given = [b.const(scale), b.const(bias)] if kind == "handed" else []
        calls.append(b.node("Norm", x, *given, domain="local"))
    b.output(b.node("Concat", *calls, axis=0, out="y"), None)
    return b.model(), scales


@pytest.mark.parametrize("kind", ["own", "handed", "scan"])
@pytest.mark.parametrize("one_pass", [False, True])
def test_the_search_reaches_functions_and_bodies(tmp_path, kind, one_pass):
    """One number of groups, which is best for all calls and turns together."""
    model, scales = inside(kind)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    rng = np.random.default_rng(9)
    contrast = np.geomspace(0.3, 3, 8)[:, None, None]
    data = {
        name: (rng.normal(size=(12, 8, 4, 4)) * contrast * rng.uniform(0.5, 2, (12, 1, 1, 1)) + m)
        for name, m in (("one", 0), ("two", 1))
    }
    data = {name: values.astype(np.float32) for name, values in data.items()}
    plan = plan_swap(load(path), swap_options(2))
    how = CalibrationOptions(one_pass=one_pass, search_groups=True)
    (found,) = calibrate(path, plan, [data], how, silent).values()
    wide = [values.astype(np.float64) for values in data.values()]
    losses = {}
    for groups in (1, 2, 4, 8):
        each = [PairMoments(8) for _ in wide] if kind == "handed" else [PairMoments(8)] * 2
        for x, scale, moments in zip(wide, scales, each, strict=True):
            n = normalize(x, num_groups=groups, epsilon=1e-5)
            moments.add(n, scale[:, None, None] * x / np.sqrt(1 + 1e-5) + 0.5)
        losses[groups] = sum(moments.loss for moments in dict.fromkeys(each))
        if groups == found.num_groups:
            best = each[0].fit()
    assert found.num_groups == min(losses, key=losses.get)
    if kind == "handed":  # which are in the calls
        assert found.scale is found.bias is None
    else:
        np.testing.assert_allclose(found.scale, best[0], rtol=1e-3, atol=1e-3)

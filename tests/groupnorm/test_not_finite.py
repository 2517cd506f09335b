"""What is not finite goes through no swap and no recalibration: data, weights, fits, statistics."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.cli import invoke
from support.swapping import run_ort

from normswap.errors import DataError, ModelError
from normswap.groupnorm.calibrate import PairMoments
from normswap.groupnorm.drift import Comparison
from normswap.groupnorm.estimate import RunningStatistics
from normswap.inputs.data import open_data
from normswap.inputs.signature import read_signature
from normswap.workflows.recalibrate import recalibrate

C = 4
BAD = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
COMMANDS = {
    "calibrate": ("bn-to-gn", "--groups", "2", "--calibrate"),
    "one pass": ("bn-to-gn", "--groups", "2", "--one-pass", "--calibrate"),
    "search": ("bn-to-gn", "--groups", "2", "--search-groups", "--calibrate"),
    "recalibrate": ("recalibrate",),
}


def network(dtype="float32", *, spoil=None, tail=None):
    """Two convolutions, each with a BatchNormalization; constants are called by what they are."""
    b = Builder(17, dtype, seed=5)

    def const(values, name):
        if spoil is not None and spoil[0] == name:
            values = np.array(values)
            values[spoil[1]] = spoil[2]
        return b.const(values, name)

    y, c_in = b.input("N", 3, 8, 8), 3
    for n in (1, 2):
        w = const(b.rng.normal(size=(C, c_in, 3, 3)) / 5, f"w{n}")
        y = b.node("Conv", y, w, const(b.rng.normal(size=C), f"b{n}"), pads=[1] * 4)
        stats = zip(("scale", "B", "mean", "var"), b.statistics(C, positive=True), strict=True)
        names = [const(values, f"{what}{n}") for what, values in stats]
        y = b.node("BatchNormalization", y, *names, name=f"bn{n}", epsilon=1e-3)
        y, c_in = b.node("Relu", y), C
    if tail is not None:
        y = tail(b, y)
    b.output(y, ("N", C, 8, 8))
    return b.model()


def images(value=None, dtype=np.float32, index=(7, 1, 2, 3)):
    data = np.random.default_rng(1).normal(size=(12, 3, 8, 8)).astype(dtype)
    if value is not None:
        data[index] = value
    return data


@pytest.fixture
def call(tmp_path):
    """Run a command; nothing may be written where it ends with 3."""

    def run(model, command, data=None, *options, arrays=None):
        path, out = tmp_path / "model.onnx", tmp_path / "new.onnx"
        onnx.save(model, path)
        out.unlink(missing_ok=True)
        arguments = list(command)
        if data is not None or arrays is not None:
            file = tmp_path / "data.npz"
            np.savez(file, **(arrays or {"x": data}))
            at_end = command[0] == "recalibrate"
            arguments += [path, file] if at_end else [file, path]
        else:
            arguments.append(path)
        result = invoke(*arguments, "-o", out, *options)
        assert out.exists() is (result.code == 0)
        assert "RuntimeWarning" not in result.err
        return result.code, " ".join((result.text + result.err).split())

    return run


# Data


@BAD
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_one_value_of_the_data(call, command, bad):
    code, words = call(network(), command, images(bad))
    assert code == 3
    assert "x has 1 value that is not finite: at index (7, 1, 2, 3)" in words


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_finite_data_beyond_the_type_of_the_model(call, command):
    code, words = call(network(), command, images(1e39, np.float64))
    assert code == 3
    assert "x has 1 value that is beyond the range of float32: at index (7, 1, 2, 3)" in words
    assert "1e+39" in words


def test_half_precision_data(call):
    code, words = call(network("float16"), COMMANDS["recalibrate"], images(1e5))
    assert code == 3
    assert "beyond the range of float16: at index (7, 1, 2, 3) it is 100000" in words


def test_other_arrays_may_be_anything(call):
    arrays = {"x": images(), "labels": np.full(12, np.nan)}
    assert call(network(), COMMANDS["one pass"], None, "--no-check", arrays=arrays)[0] == 0
    assert call(network(), COMMANDS["recalibrate"], arrays=arrays)[0] == 0


@pytest.mark.parametrize("samples", [7, 8])
def test_samples_that_are_left_out_may_be_anything(call, samples):
    for command, options in ("one pass", ["--no-check"]), ("recalibrate", []):
        data, limit = images(np.nan), ("--samples", samples, *options)
        code, _ = call(network(), COMMANDS[command], data, *limit)
        assert code == (0 if samples == 7 else 3)


def test_every_index_is_that_in_the_file(tmp_path):
    onnx.save(network(), tmp_path / "model.onnx")
    signature = read_signature(tmp_path / "model.onnx")
    for name, value in (("a", None), ("b", np.nan)):
        data = images(value)
        if value is not None:
            data[9:11] = value
        (tmp_path / "data").mkdir(exist_ok=True)
        np.savez(tmp_path / "data" / f"{name}.npz", x=data)
    with pytest.raises(DataError, match=r"b.npz can't be used: x has 385 values .*\(7, 1, 2, 3\)"):
        list(open_data(tmp_path / "data", signature, batch=5))


def test_feeds_of_a_program(tmp_path):
    onnx.save(network(), tmp_path / "model.onnx")
    signature = read_signature(tmp_path / "model.onnx")
    batches = [{"x": images()}, {"x": images(np.inf)}]
    with pytest.raises(DataError, match="batch 2 of the data can't be used: x has 1 value"):
        list(open_data(batches, signature))


def test_integers_and_text_are_finite(tmp_path):
    ports = [
        helper.make_tensor_value_info("x", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("s", TensorProto.STRING, ["N"]),
    ]
    nodes = [helper.make_node("Identity", [name], [f"{name}_y"]) for name in "xs"]
    outputs = [
        helper.make_tensor_value_info("x_y", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("s_y", TensorProto.STRING, ["N"]),
    ]
    graph = helper.make_graph(nodes, "g", ports, outputs)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "model.onnx",
    )
    feeds = {"x": np.arange(3), "s": np.array(["a", "b", "c"], dtype=object)}
    (found,) = open_data([feeds], read_signature(tmp_path / "model.onnx"))
    assert found["x"].tolist() == [0, 1, 2]


# Weights


CONSTANTS = [
    ("w1", (0, 0, 1, 2)),
    ("b1", 3),
    *((f"{what}{n}", 1) for what in ("scale", "B", "mean", "var") for n in (1, 2)),
    ("w2", (1, 2, 0, 1)),
]


@BAD
@pytest.mark.parametrize(("name", "index"), CONSTANTS)
@pytest.mark.parametrize("options", [(), ("--no-check",), ("--dry-run",)], ids=str)
def test_one_element_of_a_constant(tmp_path, name, index, bad, options):
    path, out = tmp_path / "model.onnx", tmp_path / "new.onnx"
    onnx.save(network(spoil=(name, index, bad)), path)
    target = () if options == ("--dry-run",) else ("-o", out)
    result = invoke("bn-to-gn", "--groups", "2", path, *target, *options)
    assert result.code == 3
    assert f"{name} has 1 value that is not finite: at index {index}" in result.err
    assert not out.exists()


@pytest.mark.parametrize("command", ["bn-to-ln", "bn-to-in"])
def test_the_other_swaps(call, command):
    code, words = call(network(spoil=("mean1", 1, np.inf)), (command,))
    assert code == 3
    assert "mean1 has 1 value that is not finite: at index 1 it is infinite" in words


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types(call, dtype):
    code, words = call(network(dtype, spoil=("w1", (0, 0, 1, 2), np.nan)), ("bn-to-ln",))
    assert code == 3
    assert "w1 has 1 value" in words


def test_a_layer_that_is_left_out_counts_too(call):
    """Its NaN comes to the layers behind it, and to the output."""
    model = network(spoil=("mean1", 1, np.nan))
    code, words = call(model, ("bn-to-gn", "--groups", "2", "--exclude", "bn1"))
    assert code == 3
    assert "mean1 has 1 value" in words


def test_behind_the_last_layer(call):
    def tail(b, y):
        return b.node("Mul", y, b.const(np.array([1, np.nan, 1, 1]).reshape(C, 1, 1), "gain"))

    code, words = call(network(tail=tail), ("bn-to-gn", "--groups", "2"))
    assert code == 3
    assert "gain has 1 value that is not finite: at index (1, 0, 0) it is NaN, in Mul" in words


@BAD
def test_computed_parameters(call, bad):
    b = Builder()
    var = b.const(np.array([1, bad, 2, 1]), "spoilt")
    var = b.node("Add", var, b.const(np.array(0.5)))
    y = b.node("BatchNormalization", b.input("N", C, 8, 8), *map(b.const, b.statistics(C)[:3]), var)
    b.output(y, ("N", C, 8, 8))
    code, words = call(b.model(), ("bn-to-gn", "--groups", "2"))
    assert code == 3
    assert "has 1 value that is not finite: at index 1" in words


def test_in_a_branch(call):
    b = Builder()
    condition = b.input(name="condition", elem_type=TensorProto.BOOL)
    b.input(2, C, 8, 8)
    w = np.ones((C, C, 1, 1))
    w[2, 1, 0, 0] = np.nan
    b.const(w, "spoilt")
    graphs = {}
    for name in ("then", "else"):
        outer, b.nodes = b.nodes, []
        y = b.node("Conv", "x", "spoilt") if name == "then" else "x"
        y = b.bn(y, C, epsilon=1e-3)
        info = helper.make_tensor_value_info(y, 1, None)
        graphs[f"{name}_branch"] = helper.make_graph(b.nodes, name, [], [info])
        b.nodes = outer
    b.output(b.node("If", condition, **graphs), (2, C, 8, 8))
    code, words = call(b.model(), ("bn-to-gn", "--groups", "2", "--no-check"))
    assert code == 3
    assert "spoilt has 1 value that is not finite: at index (2, 1, 0, 0)" in words


MASK = np.where(np.arange(8) > 5, -np.inf, 0.0)


def masked_scores(b, y):
    return b.node("Softmax", b.node("Add", y, b.const(MASK, "mask")))


def limited(b, y):
    return b.node("Max", y, b.const(np.array(-np.inf), "mask"))


def chosen(b, y):
    keep = b.node("Less", y, b.const(np.array(1.0)))
    scores = b.node("Where", keep, y, b.const(np.array(-np.inf), "mask"))
    return b.node("Softmax", scores)


def never_chosen(b, y):
    return b.node("Where", b.node("Less", y, y), b.const(np.array(np.nan), "mask"), y)


@pytest.mark.parametrize("tail", [masked_scores, limited, chosen, never_chosen])
def test_masks_are_legal(call, tail):
    assert call(network(tail=tail), ("bn-to-gn", "--groups", "2", "--no-check"))[0] == 0
    assert call(network(tail=tail), COMMANDS["recalibrate"], images())[0] == 0


def test_a_sum_with_infinity_that_the_caller_sees(call):
    def tail(b, y):
        return b.node("Add", y, b.const(np.array([0, 0, np.inf, 0]).reshape(C, 1, 1), "offset"))

    code, words = call(network(tail=tail), ("bn-to-gn", "--groups", "2"))
    assert code == 3
    assert "offset has 1 value that is not finite: at index (2, 0, 0) it is infinite" in words


def test_what_reaches_nothing_is_legal(call):
    def tail(b, y):
        b.node("Mul", y, b.const(np.array(np.nan)))
        return b.node("Identity", y)

    assert call(network(tail=tail), ("bn-to-gn", "--groups", "2", "--no-check"))[0] == 0


def test_all_constants_are_named_at_once(call):
    model = network(spoil=("w1", (slice(None), 0, 0, 0), np.nan))
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[0, 0, 0, 0] = np.inf
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, "w2"))
    code, words = call(model, ("bn-to-gn", "--groups", "2"))
    assert code == 3
    assert "w1 has 4 values that are not finite: the first, at index (0, 0, 0, 0), is NaN" in words
    assert "w2 has 1 value" in words


def test_minus_infinity_given_to_a_check_is_legal(tmp_path):
    b = Builder()
    scores = b.node("Add", b.input(2, 5, 5), b.input(2, 5, 5, name="mask"))
    b.output(b.node("Softmax", scores), (2, 5, 5))
    path = tmp_path / "model.onnx"
    onnx.save(b.model(), path)
    mask = np.where(np.tri(5) > 0, 0, -np.inf).astype(np.float32) + np.zeros((2, 1, 1), np.float32)
    x = np.random.default_rng(0).normal(size=(2, 5, 5)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, mask=mask)
    result = invoke("check", path, path, "--load-inputs", tmp_path / "data.npz")
    assert result.code == 0, result.text + result.err
    assert "RuntimeWarning" not in result.err


# Recalibration


@BAD
@pytest.mark.parametrize(
    ("name", "index"), [c for c in CONSTANTS if c[0][:3] not in ("mea", "var")]
)
def test_recalibrate_refuses_what_stays(call, name, index, bad):
    code, words = call(network(spoil=(name, index, bad)), COMMANDS["recalibrate"], images())
    assert code == 3
    assert f"{name} has 1 value that is not finite: at index {index}" in words


@BAD
@pytest.mark.parametrize("name", ["mean1", "var2"])
def test_recalibrate_replaces_old_statistics_and_says_so(call, tmp_path, name, bad):
    model = network(spoil=(name, 1, bad))
    code, words = call(model, COMMANDS["recalibrate"], images(), "--json")
    assert code == 0
    assert f"{name} has 1 value that is not finite: at index 1" in words
    report = json.loads(words[: words.rindex("}") + 1])
    assert all(isinstance(layer["mean_shift"], float) for layer in report["layers"])
    result = onnx.load(tmp_path / "new.onnx")
    assert np.isfinite(run_ort(result, x=images())[0]).all()
    code, words = call(model, COMMANDS["recalibrate"], images())
    assert f"replaced: {name} has 1 value" in words


def test_old_statistics_count_with_a_momentum(call):
    model = network(spoil=("mean1", 1, np.inf))
    code, words = call(model, COMMANDS["recalibrate"], images(), "--momentum", "0.9")
    assert code == 3
    assert "mean1 has 1 value that is not finite: at index 1 it is infinite" in words


def overflowing():
    """A half-precision network that leaves its range on data of ordinary size."""
    model = network("float16")
    for tensor in model.graph.initializer:
        if tensor.name in {"w1", "scale1"}:
            values = onnx.numpy_helper.to_array(tensor)
            values = np.sign(values) * np.float16(1000)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), tensor.name))
    return model


def test_statistics_that_overflow(call):
    data = images(dtype=np.float16) * np.float16(100)
    code, words = call(overflowing(), COMMANDS["recalibrate"], data)
    assert code == 3
    assert "the new input_" in words
    assert "index" in words


@pytest.mark.parametrize("command", ["calibrate", "one pass", "search"])
def test_fits_that_overflow(call, command):
    data = images(dtype=np.float16) * np.float16(100)
    code, words = call(overflowing(), COMMANDS[command], data)
    if command == "calibrate":  # which takes no fit that is none
        assert code == 0
        assert "because it has NaN or infinite values on this data: bn1, bn2" in words
        return
    assert code == 3
    assert "On this data the fitted scale of bn1 has 4 values" in words
    assert "index" in words


def test_half_precision_is_fitted(call):
    code, words = call(network("float16"), COMMANDS["calibrate"], images(dtype=np.float16))
    assert code == 0
    assert "bn2" in words


def test_a_drift_is_that_of_the_finite_places():
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=(6, 5))
    ours = theirs + rng.normal(size=(6, 5)) / 10
    comparison = Comparison()
    comparison.add(ours[2:], theirs[2:])
    spoilt_ours, spoilt = ours.copy(), theirs.copy()
    spoilt[0] = np.nan
    spoilt_ours[1] = np.inf
    other = Comparison()
    other.add(spoilt_ours, spoilt)
    assert other.result() == comparison.result()
    assert other.samples == 4
    none = Comparison()
    none.add(spoilt_ours[:2], spoilt[:2])
    assert np.isnan([none.result().snr, none.result().cosine]).all()
    assert none.result().top1 is None


def test_a_network_that_overflows_on_its_own_is_named(call):
    code, words = call(overflowing(), ("bn-to-gn", "--groups", "2"))
    assert code == 0
    assert "of the original network has" in words
    assert "values that are not finite: the first, at index (0, 0, 0, 0), is NaN" in words
    assert "nan" not in words
    assert "unknown" in words


def test_moments_pass_on_what_is_not_finite():
    for value in (np.nan, np.inf):
        n = np.random.default_rng(0).normal(size=(4, 2, 3))
        n[1, 1, 1] = value
        for pair in ((n, np.ones_like(n)), (np.ones_like(n), n)):
            moments = PairMoments(2)
            moments.add(*pair)
            scale, bias = moments.fit()
            assert np.isfinite([scale[0], bias[0]]).all()
            assert not np.isfinite([scale[1], bias[1]]).all()
    statistics = RunningStatistics(2)
    statistics.add(np.array([0, np.inf]), np.array([1, np.nan]), 3)
    statistics.add(np.array([0, np.inf]), np.array([1, np.nan]), 3)
    assert not np.isfinite(statistics.mean[1])


def test_the_library_says_so_too(tmp_path):
    onnx.save(network(spoil=("w1", (0, 0, 1, 2), np.nan)), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="can't be recalibrated: w1 has 1 value"):
        recalibrate(tmp_path / "model.onnx", [{"x": images()}], tmp_path / "new.onnx")

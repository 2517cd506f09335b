"""``normswap bn-to-gn`` and ``normswap recalibrate``, as users call them."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from support.build import Builder
from support.cli import invoke

import normswap
from normswap.cli import COMMANDS
from normswap.errors import DataError
from normswap.groupnorm.forms.layernorm import is_precise_on_cpu
from normswap.report import tell

FOUR = {
    "bn-to-gn": "normswap.cli.bn_to_gn:bn_to_gn_command",
    "bn-to-ln": "normswap.cli.bn_to_gn:bn_to_ln_command",
    "bn-to-in": "normswap.cli.bn_to_gn:bn_to_in_command",
    "recalibrate": "normswap.cli.recalibrate:recalibrate_command",
}


@pytest.fixture(autouse=True)
def commands(monkeypatch):
    for name, place in FOUR.items():
        monkeypatch.setitem(COMMANDS, name, (place, ""))


def network(channels=(8, 16), batch="N"):
    b = Builder(17, seed=1)
    x, before = b.input(batch, 3, 8, 8), 3
    for number, count in enumerate(channels):
        x = b.conv(x, before, count, pads=[1, 1, 1, 1])
        stats = b.statistics(count, positive=True)
        x = b.bn(x, count, stats=stats, name=f"bn{number}", out=f"n{number}", epsilon=1e-5)
        x, before = b.node("Relu", x), count
    pooled = b.node("Flatten", b.node("GlobalAveragePool", x))
    b.output(b.node("Gemm", pooled, b.normal(before, 4), out="y"), None)
    return b.model()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(network(), path)
    return path


def test_regroup(model):
    """Channels move; that this is the same function is proved, and stands in the report."""
    result = invoke("bn-to-gn", "--groups", 4, "--regroup", model, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert [layer["by"] for layer in report["regrouping"]["layers"]] == ["weights", "weights"]
    assert report["permutation"] == {"verdict": "equivalent", "proved": True, "reasons": []}
    arguments = ["bn-to-gn", "--groups", 4, "--regroup", model, "--dry-run"]
    assert re.search(r"2 +\d+% less by the weights", invoke(*arguments).text)
    assert "first" in invoke(*arguments, "-v").text
    table = invoke(*arguments, "--format", "markdown").text
    assert "| normalization | channels moved | compared by | change of group statistics |" in table
    assert invoke("bn-to-ln", "--regroup", model).code == 2


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.normal(size=(24, 3, 8, 8)).astype(np.float32))
    return path


def batchnorms(path):
    loaded = onnx.load(path) if not isinstance(path, bytes) else onnx.load_from_string(path)
    return sum(node.op_type == "BatchNormalization" for node in loaded.graph.node)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_default_output_is_beside_the_model(model):
    result = invoke("bn-to-gn", "--groups", 4, model)
    assert result.code == 0, result.err
    assert batchnorms(model.with_name("model.gn.onnx")) == 0
    assert batchnorms(model) == 2
    assert "2 BatchNormalization: 2 swapped" in result.text
    assert "group normalization, proved: " in result.text
    assert "the outputs differ in onnxruntime by at most " in result.text
    assert "output y, same sample alone and in a batch: " in result.text
    assert (
        "drift from the original network (expected, since a swap makes a different function)"
        in result.text
    )
    assert files(model.parent) == ["model.gn.onnx", "model.onnx"]


def test_a_pipe(model):
    result = invoke("bn-to-gn", "--groups", 4, stdin=model.read_bytes())
    assert result.code == 0, result.err
    assert batchnorms(result.out) == 0
    assert "2 swapped" in result.err


@pytest.mark.parametrize(
    ("command", "groups", "suffix"), [("bn-to-ln", [1, 1], "ln"), ("bn-to-in", [8, 16], "in")]
)
def test_special_cases(model, command, groups, suffix):
    result = invoke(command, model, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.text)
    assert [swap["num_groups"] for swap in report["plan"]["swaps"]] == groups
    assert batchnorms(model.with_name(f"model.{suffix}.onnx")) == 0


def test_groups_that_do_not_fit_name_every_layer(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(network((12, 20)), path)
    result = invoke("bn-to-gn", path)
    assert result.code == 2
    assert "bn0 has 12; bn1 has 20" in result.err
    assert "--groups 4 divides the channels of every layer" in result.err
    assert files(tmp_path) == ["model.onnx"]
    result = invoke("bn-to-gn", path, "--on-indivisible", "gcd", "--no-check", "--json")
    assert [s["num_groups"] for s in json.loads(result.text)["plan"]["swaps"]] == [4, 4]
    result = invoke("bn-to-gn", path, "--on-indivisible", "keep", "--no-check", "--force")
    assert "2 kept" in result.text
    assert "12 channels can't be divided into 32 groups" in result.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--groups", 0), "must be at least 1"),
        (("--groups", "many"), "neither a number nor"),
        (("--group-size", -1), "must be at least 1"),
        (("--groups", 4, "--group-size", 4), "can't be used together"),
        (("--groups", 4, "--search-groups"), "needs data"),
        (("--groups", 4, "--one-pass"), "needs data"),
        (("--groups", 4, "--samples", 3), "needs data"),
        (("--groups", 4, "--epsilon", -1), "must not be negative"),
        (("--groups", 4, "--include", "nothing*"), "matches the pattern"),
        (("--groups", 4, "--form", "native"), "needs opset 21"),
        (("--groups", 4, "--form", "contrib"), "CUDA only"),
        (("--groups", 4, "--in-place", "-o", "x.onnx"), "can't be used together"),
    ],
)
def test_usage_errors(model, arguments, message):
    result = invoke("bn-to-gn", *arguments, model)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) <= 4
    assert files(model.parent) == ["model.onnx"]


def test_dry_run(model):
    result = invoke("bn-to-gn", "--group-size", 4, "--dry-run", "-v", model)
    assert result.code == 0
    assert "bn0" in result.text
    assert "bn1" in result.text
    assert "nothing was written" in result.text
    assert files(model.parent) == ["model.onnx"]


def test_selection_and_affine(model):
    result = invoke(
        "bn-to-gn",
        "--groups",
        4,
        "--exclude",
        "bn1",
        "--no-scale",
        "--epsilon",
        0.5,
        "--json",
        model,
    )
    assert result.code == 0, result.err
    plan = json.loads(result.text)["plan"]
    (swap,) = plan["swaps"]
    assert (swap["site"]["node"], swap["scale"], swap["bias"]) == ("bn0", False, True)
    assert swap["epsilon"] == 0.5
    assert plan["kept"][0]["reason"] == "excluded"
    assert plan["kept"][0]["detail"] == "excluded by 'bn1'"


def test_an_existing_file_is_not_overwritten(model):
    target = model.with_name("model.gn.onnx")
    target.write_bytes(b"mine")
    assert invoke("bn-to-gn", "--groups", 4, "--no-check", model).code == 2
    assert target.read_bytes() == b"mine"
    assert invoke("bn-to-gn", "--groups", 4, "--no-check", "--force", model).code == 0
    assert invoke("bn-to-gn", "--groups", 4, "--no-check", "--in-place", model).code == 0
    assert batchnorms(model) == 0


@pytest.mark.parametrize("extra", [(), ("--one-pass",), ("--search-groups",)])
def test_calibration(model, data, extra):
    result = invoke("bn-to-gn", "--groups", 4, "--calibrate", data, *extra, "--json", model)
    assert result.code == 0, result.err
    report = json.loads(result.text)
    assert report["calibrated"] == 2
    before = report["drift_before_calibration"]["outputs"]["y"]["snr"]
    assert report["check"]["drift"]["outputs"]["y"]["snr"] > before


def test_a_refit_is_told(model, data):
    how = ("--groups", 4, "--calibrate", data, "--refit", model, "--no-normalize")
    result = invoke("bn-to-gn", *how, "--holdout", 0.5, "--force")
    assert result.code == 0, result.err
    assert (
        "least squares on 12 samples; SNR of the outputs vs. the original, on 12 held-out samples"
        in result.text
    )
    assert "\n             refitted " in result.text.replace("output y", "        ")
    assert " layers together " in result.text
    report = json.loads(invoke("bn-to-gn", *how, "--force", "--json").text)
    steps = report["fit"]["steps"]
    assert report["fit"]["after"]["y"]["snr"] == pytest.approx(steps[-1]["after"])
    assert steps[0]["kind"] == "weights"
    assert {step["kind"] for step in steps} <= {"weights", "weight"}


@pytest.mark.parametrize("extra", [("--refit",), ("--holdout", "film")])
def test_what_is_fitted_needs_data(model, extra):
    result = invoke("bn-to-gn", model, *extra)
    assert result.code == 2
    assert f"{extra[0]} needs data" in result.err


def test_calibration_is_told(model, data):
    result = invoke("bn-to-gn", "--groups", 4, "--calibrate", data, "--samples", 8, "-v", model)
    assert "output y   swapped " in result.text
    assert "\n             calibrated " in result.text
    assert "on the held-out samples, by which the fits were chosen:" in result.text
    assert "with fewer than 50 samples, agreement of the top class is not reported" in result.text
    assert "--calibrate DATA" not in result.text


def test_fits_that_bring_nothing_are_told(model, data):
    def told(report):
        stream = io.StringIO()
        tell(report, "text", stream)
        return stream.getvalue()

    how = {"calibrate": data, "evaluate": data, "one_pass": True}
    report = normswap.bn_to_gn(model, groups=4, **how).report
    assert "on the --evaluate data:" in told(report)
    assert "no fit helped" not in told(report)
    assert "no fit helped on held-out samples" in told(replace(report, calibrated=0))


def test_what_is_absorbed_is_told(tmp_path):
    b = Builder(17)
    y = b.bn(b.input("N", 8, 6, 6), 8, name="first", epsilon=1e-5)
    y = b.node("Mul", y, b.const(np.array(2.0)), name="double")
    b.output(b.bn(y, 8, name="second", epsilon=1e-5, out="y"), None)
    onnx.save(b.model(), tmp_path / "model.onnx")
    result = invoke(
        "bn-to-gn", tmp_path / "model.onnx", "--groups", 2, "--exclude", "second", "--dry-run"
    )
    assert "2 BatchNormalization: 1 swapped, 1 absorbed" in result.text
    rows = [line.split() for line in result.text.splitlines()]
    assert ["Mul", "double", "first"] in rows
    assert ["BatchNormalization", "second", "first"] in rows
    assert "kept" not in result.text


def test_a_wrong_swap_is_told_and_not_written(model, monkeypatch):
    import normswap.groupnorm.forms.instancenorm as form

    monkeypatch.setattr(
        form, "per_group", lambda _value, groups, neutral: (np.full(groups, neutral), None)
    )
    result = invoke("bn-to-gn", "--groups", 4, "--form", "instancenorm", model)
    assert result.code == 1
    assert "\nnot group normalization: " in result.text
    assert "output 'y': " in result.text
    assert "', computed by Reshape " in result.text  # where it is
    assert "output y, same sample alone and in a batch: " in result.text
    assert "nothing was written" in result.text
    assert "tip:" not in result.text  # of what to do with a swap, where there is none
    assert files(model.parent) == ["model.onnx"]


def test_the_fastest_form_is_measured(model):
    result = invoke("bn-to-gn", "--groups", 4, "--form", "fastest", "--json", model)
    assert result.code == 0, result.err
    forms = {"centred", "instancenorm", "primitive"}
    forms |= {"layernorm"} if is_precise_on_cpu() else set()
    for swap, channels in zip(json.loads(result.text)["plan"]["swaps"], (8, 16), strict=True):
        assert swap["why"] == f"the fastest here of {len(forms)} forms measured at 1x{channels}x8x8"
        seconds = swap["timings"]["seconds"]
        assert set(seconds) == forms
        assert seconds[swap["form"]] <= 1.03 * min(seconds.values())


def test_a_dry_run_measures_too(model):
    arguments = ["bn-to-gn", "--groups", 4, "--form", "fastest", "--dry-run", "--threads", 1]
    result = invoke(*arguments, "--no-check", "--input-shape", "x:5,3,8,8", model)
    assert result.code == 0, result.err
    assert "forms measured at 5x8x8x8" in result.text
    assert files(model.parent) == ["model.onnx"]
    result = invoke(*arguments, "--no-check", "--input-shape", "x:5,-3", model)
    assert result.code == 2
    assert "is not an input shape" in result.err


def test_data_that_does_not_fit(model, tmp_path):
    np.savez(tmp_path / "bad.npz", x=np.zeros((4, 5, 8, 8), np.float32))
    result = invoke("bn-to-gn", "--groups", 4, "--calibrate", tmp_path / "bad.npz", model)
    assert result.code == 3
    assert "its shape is [4, 5, 8, 8], but axis 1 must be 3" in result.err
    assert files(tmp_path) == ["bad.npz", "model.onnx"]


def test_a_model_without_normalizations_says_how_to_export_them(tmp_path):
    b = Builder()
    b.output(b.node("Relu", b.conv(b.input(2, 3, 5, 5), 3, 4)), None)
    path = tmp_path / "model.onnx"
    onnx.save(b.model(), path)
    result = invoke("bn-to-gn", path)
    assert result.code == 0
    assert "no BatchNormalization found" in result.text
    assert "TrainingMode.PRESERVE" in result.text


def test_a_model_that_can_not_be_swapped(tmp_path):
    b = Builder(15)
    parameters = [b.const(v) for v in b.statistics(8)]
    y, mean, _ = b.node(
        "BatchNormalization", b.input(2, 8, 6), *parameters, outputs=3, name="bn", training_mode=1
    )
    b.output(y, None).output(mean, [8])
    path = tmp_path / "model.onnx"
    onnx.save(b.model(), path)
    result = invoke("bn-to-gn", "--groups", 4, path)
    assert result.code == 3
    assert "bn: its output" in result.err


def test_no_model(tmp_path):
    (tmp_path / "text.onnx").write_text("hello, I am a text file")
    assert invoke("bn-to-gn", tmp_path / "text.onnx").code == 3
    assert invoke("recalibrate", tmp_path / "text.onnx", tmp_path / "text.onnx").code == 3


def test_a_missing_provider(model):
    result = invoke("bn-to-gn", "--groups", 4, "--provider", "openvino", model)
    assert result.code == 4
    assert "not available here" in result.err
    assert files(model.parent) == ["model.onnx"]


def test_recalibrate(model, data):
    result = invoke("recalibrate", model, data)
    assert result.code == 0, result.err
    assert "2 BatchNormalization recalibrated on 24 samples" in result.text
    assert batchnorms(model.with_name("model.recalibrated.onnx")) == 2
    report = json.loads(invoke("recalibrate", model, data, "--force", "--json").text)
    assert [layer["site"]["node"] for layer in report["layers"]] == ["bn0", "bn1"]


def test_recalibrate_freezes(tmp_path):
    b = Builder(17)
    parameters = [b.const(v) for v in b.statistics(3)]
    x = b.input("N", 3, 4, elem_type=TensorProto.FLOAT)
    y, *_ = b.node("BatchNormalization", x, *parameters, outputs=3, training_mode=1)
    b.output(b.node("Relu", y, out="y"), ["N", 3, 4])
    onnx.save(b.model(), tmp_path / "model.onnx")
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(8, 3, 4)))
    result = invoke(
        "recalibrate", tmp_path / "model.onnx", tmp_path / "data.npy", "--freeze",
        "-o", tmp_path / "out.onnx",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "1 switched from training to inference mode" in result.text
    node = onnx.load(tmp_path / "out.onnx").graph.node[0]
    assert len(node.output) == 1


def test_recalibrate_freezes_without_data(tmp_path):
    b = Builder(17)
    parameters = [b.const(v) for v in b.statistics(4, positive=True)]
    x = b.conv(b.input("N", 3, 6, 6), 3, 4)
    y = b.node("BatchNormalization", x, *parameters, outputs=3, training_mode=1, name="bn")[0]
    b.output(y, None)
    model = tmp_path / "model.onnx"
    onnx.save(b.model(), model)
    result = invoke("recalibrate", model)
    assert result.code == 2
    assert "--freeze" in result.err
    assert invoke("recalibrate", "--freeze", model, "--samples", 3).code == 2
    result = invoke("recalibrate", "--freeze", model)
    assert result.code == 0
    assert (
        "1 switched from training to inference mode, keeping the statistics in the model"
        in result.text
    )
    new = onnx.load(tmp_path / "model.recalibrated.onnx")
    assert list(new.graph.node[1].output) == list(b.nodes[1].output)[:1]
    assert list(new.graph.initializer) == b.initializers
    result = invoke(
        "recalibrate",
        "--freeze",
        tmp_path / "model.recalibrated.onnx",
        "-o",
        tmp_path / "again.onnx",
    )
    assert result.code == 0
    assert "no BatchNormalization in training mode" in result.text


def test_recalibrate_keeps_what_is_excluded(model, data):
    result = invoke("recalibrate", model, data, "--exclude", "bn1", "--json")
    assert result.code == 0
    report = json.loads(result.text)
    (kept,) = report["kept"]
    assert (kept["site"]["node"], kept["reason"]) == ("bn1", "excluded")
    text = invoke("recalibrate", model, data, "--include", "bn0", "--force").text
    assert "1 BatchNormalization recalibrated on 24 samples, 1 kept" in text
    assert "no include pattern matches it" in text


def test_without_normalizing_first(model):
    result = invoke("bn-to-gn", "--groups", 4, model, "--dry-run")
    assert re.search(r"normalized first.*\n +2 +in the Conv before\n", result.text)
    result = invoke("bn-to-gn", "--groups", 4, model, "--dry-run", "--json")
    (first, _) = json.loads(result.text)["plan"]["swaps"]
    assert first["statistics"]["normalized"] is True
    assert [step["op"] for step in first["statistics"]["route"]] == ["Conv"]
    result = invoke("bn-to-gn", "--groups", 4, model, "--dry-run", "--no-normalize")
    assert "normalized first" not in result.text


def test_labels(model, data, tmp_path):
    arrays = dict(np.load(data))
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    told = session.run(None, arrays)[0].argmax(axis=1)
    told[:6] = (told[:6] + 1) % 4
    np.savez(tmp_path / "labelled.npz", truth=told, **arrays)
    np.save(tmp_path / "truth.npy", told)
    how = ("bn-to-gn", "--groups", 4, model, "--evaluate", tmp_path / "labelled.npz", "--force")
    how = (*how, "--no-check")
    result = invoke(*how, "--labels", "truth")
    assert "accuracy of output y, on 24 labels: original 75.0%, swapped " in result.text
    assert "ignored" not in result.text
    result = invoke(
        *how, "--labels", tmp_path / "truth.npy", "--json", "--samples", 6, "--no-check"
    )
    accuracy = json.loads(result.text)["accuracy"]
    assert (accuracy["original"], accuracy["labels"], accuracy["output"]) == (0.0, 6, "y")
    result = invoke(*how, "--labels", "nowhere")
    assert result.code == 3
    assert "no array 'nowhere' to take the labels from; it has truth, x." in result.err
    result = invoke(*how, "--labels", tmp_path / "trut.npy")
    assert result.code == 3
    assert "There is no file" in result.err
    assert "truth.npy" in result.err
    result = invoke("bn-to-gn", "--groups", 4, model, "--labels", "truth")
    assert (result.code, "--evaluate DATA" in result.err) == (2, True)


def test_labels_are_looked_at_before_a_fit(model, data):
    told = []
    options = {"groups": 4, "calibrate": data, "refit": True, "progress": told.append}
    for labels, message in ((np.eye(24), "No output"), (np.full(24, 4), "output 'y' has 4")):
        with pytest.raises(DataError, match=message):
            normswap.bn_to_gn(model, labels=labels, **options)
    assert not [line for line in told if "fitting" in line]


def test_labels_that_name_no_class_are_told(model, data):
    labels = np.arange(24) % 5
    with_others = normswap.bn_to_gn(model, groups=4, evaluate=data, labels=labels, check=None)
    report = with_others.report
    assert (report.accuracy.labels, report.accuracy.left_out) == (20, 4)
    told = {
        "text": "\n  4 other labels name no class",
        "markdown": ", 4 other labels name no class",
    }
    for form, words in told.items():
        stream = io.StringIO()
        tell(report, form, stream)
        assert words in stream.getvalue()


def test_without_data_no_accuracy_is_claimed(model):
    result = invoke("bn-to-gn", "--groups", 4, model)
    assert "makes a different function), on random inputs:" in result.text
    assert re.search(
        r"SNR of the layers: -?\d+\.\d to -?\d+\.\d dB, least in n[01]; -v", result.text
    )
    assert "no accuracy was measured" in result.text
    assert "top class" not in result.text


def test_in_training_mode_it_says_what_helps(tmp_path):
    b = Builder(17)
    parameters = map(b.const, b.statistics(4))
    x = b.conv(b.input("N", 3, 8, 8), 3, 4)
    b.output(b.node("BatchNormalization", x, *parameters, outputs=3, training_mode=1)[0])
    onnx.save(b.model(), tmp_path / "model.onnx")
    result = invoke("bn-to-gn", "--groups", 2, tmp_path / "model.onnx", "--dry-run")
    assert re.search(r"\n +1 +left out +training-mode\n", result.text)
    assert f"`normswap recalibrate --freeze {tmp_path / 'model.onnx'}`" in result.text

"""What several commands can be told is told in the same words; odd values are usage errors."""

import importlib
import json
import os
import threading

import click
import numpy as np
import onnx
import pytest
from support.build import Builder
from support.cli import invoke

from normswap.cli import COMMANDS
from normswap.groupnorm.apply import apply_swaps

REWRITES = ["fold", "bn-to-gn", "bn-to-ln", "bn-to-in"]
CHECKED = [*REWRITES, "check"]


def options_of(name):
    module, _, attribute = COMMANDS[name][0].partition(":")
    parameters = getattr(importlib.import_module(module), attribute).params
    return {
        opt: option
        for option in parameters
        for opt in option.opts
        if isinstance(option, click.Option)
    }


@pytest.fixture
def model(tmp_path):
    b = Builder(17, seed=1)
    y = b.bn(b.conv(b.input("N", 3, 8, 8), 3, 4, pads=[1] * 4), 4, name="bn", positive=True)
    b.output(b.node("Relu", y, out="y"), None)
    path = tmp_path / "model.onnx"
    onnx.save(b.model(), path)
    return path


def command_of(name, model):
    models = [model, model] if name == "check" else [model]
    data = [model.with_name("data.npz")] if name == "recalibrate" else []
    groups = ["--groups", "2"] if name == "bn-to-gn" else []
    return [name, *groups, *models, *data]


@pytest.mark.parametrize("stdin", [None, b""], ids=["terminal", "empty"])
@pytest.mark.parametrize(
    ("name", "missing", "example"),
    [
        ("fold", "No model", "fold model.onnx"),
        ("bn-to-gn", "No model", "bn-to-gn --groups 32 model.onnx"),
        ("bn-to-ln", "No model", "bn-to-ln model.onnx"),
        ("bn-to-in", "No model", "bn-to-in model.onnx"),
        ("recalibrate", "No model", "recalibrate model.onnx images.npz"),
        ("unfold", "No model", "unfold model.onnx --calibrate images.npz"),
        ("check", "No model", "check model.onnx model.folded.onnx"),
        ("inspect", "No model", "inspect model.onnx"),
        ("lint", "No model", "lint model.onnx"),
        ("diff", "diff needs BEFORE and AFTER", "diff old.onnx new.onnx"),
        (
            "verify",
            "verify needs CERTIFICATE, ORIGINAL and REWRITTEN",
            "verify proof.json model.onnx model.folded.onnx",
        ),
    ],
)
def test_no_model(name, missing, example, stdin):
    done = invoke(name, stdin=stdin)
    assert done.code == 2
    told, tip = done.err.splitlines()
    assert told.startswith("error: ")
    assert missing in told
    assert tip == f"tip: For example: normswap {example}"


@pytest.mark.parametrize("name", ["check", "diff", "inspect", "lint"])
def test_a_text_file_is_called_one(name, model, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("weights: see the other folder\n")
    more = [model] if name in ("check", "diff") else []
    done = invoke(name, text, *more)
    assert done.code == 3
    assert "notes.txt is a text file, not an ONNX model" in done.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
@pytest.mark.parametrize("name", ["check", "diff", "inspect"])
def test_a_model_from_a_named_pipe(name, model, tmp_path):
    """As a shell gives one: ``normswap diff <(git show HEAD:model.onnx) model.onnx``."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[model.read_bytes()], daemon=True)
    writer.start()
    done = invoke(name, pipe, *([model] if name in ("check", "diff") else []))
    assert done.code == 0, done.err


def test_one_vocabulary():
    shared = ["--check", "--provider", "--device-id", "--gpu-mem-limit", "--provider-option"]
    shared += ["--seed", "--input-shape", "--timeout", "--save-failing-inputs", "--json"]
    all_options = {name: options_of(name) for name in COMMANDS}
    for name in CHECKED:
        assert set(shared) <= all_options[name].keys(), name
    for option in (*shared, "--samples", "--timeout"):
        kinds = {
            (type(found[option].type), found[option].metavar)
            for found in all_options.values()
            if option in found
        }
        assert len(kinds) == 1, option
    old = {"--depth", "--save-failing", "--input-shapes", "--symbolic-dims"}
    assert not any(old & found.keys() for found in all_options.values())


ODD = {
    "--input-shape": [
        "",
        "x:",
        ":",
        "x:1,,2",
        "x:-1,3",
        "x:1.5",
        "x:1_0,2",
        "x:²,3",
        "1,3;8",
        "x:0x",
    ],
    "--timeout": ["0", "-1", "nan", "inf", "soon", "1e99"],
    "--seed": ["-1", "1.5", "one"],
    "--save-failing-inputs": ["", ".", "/no/such/folder/bad.npz"],
    "--check": ["deep", "Quick", ""],
    "--device-id": ["-1", "cpu"],
    "--provider-option": ["novalue"],
}
LINES = [(option, value) for option, values in ODD.items() for value in values]


@pytest.mark.parametrize(("option", "value"), LINES)
def test_odd_values_are_usage_errors_of_one_line(model, option, value):
    for name in CHECKED if option == "--check" else ["fold", "bn-to-gn", "check"]:
        result = invoke(*command_of(name, model), f"{option}={value}")
        assert result.code == 2, (name, result.err)
        *_, error = [line for line in result.err.splitlines() if not line.startswith("tip: ")]
        assert error.lower().startswith("error: ")
        assert "Traceback" not in result.err
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("check", "--symbolic-dim", "N=²"),
        ("check", "--val-range", "nan,1"),
        ("check", "--val-range", "0,inf"),
        ("check", "--val-range", "1,2,3"),
        ("check", "--rtol", "nan"),
        ("check", "--save-inputs", "/no/such/folder/in.npz"),
        ("check", "--save-outputs", "."),
        ("recalibrate", "--momentum", "1"),
        ("recalibrate", "--timeout", "nan"),
        ("recalibrate", "--samples", "0"),
        ("bn-to-gn", "--samples", "-3"),
        ("bn-to-gn", "--threads", "0"),
        ("bn-to-gn", "--epsilon", "nan"),
        ("bn-to-gn", "--epsilon", "-1"),
    ],
)
def test_odd_values_of_one_command(model, command, option, value):
    np.savez(model.with_name("data.npz"), x=np.ones((2, 3, 8, 8), np.float32))
    result = invoke(*command_of(command, model), f"{option}={value}")
    assert result.code == 2, result.err


@pytest.mark.parametrize("shape", ["x:5,3,8,8", "5,3,8,8", "5x3x8x8", "x:[5,3,8,8]"])
@pytest.mark.parametrize("name", ["fold", "bn-to-in", "check"])
def test_the_name_of_an_only_input_may_be_left_out(model, name, shape):
    result = invoke(*command_of(name, model), "--input-shape", shape, "--json")
    assert result.code == 0, result.err
    if name != "bn-to-in":
        report = json.loads(result.text)
        cases = report["cases"] if name == "check" else report["check"]["cases"]
        assert {tuple(case["shapes"]["x"]) for case in cases} == {(5, 3, 8, 8)}


@pytest.mark.parametrize("name", ["fold", "bn-to-in", "check"])
def test_a_shape_needs_a_name_where_there_are_two(tmp_path, name):
    b = Builder(17, seed=1)
    x = b.node("Add", b.input("N", 3, 8, 8), b.input("N", 3, 8, 8, name="z"))
    b.output(b.bn(b.conv(x, 3, 4), 4, name="bn", positive=True, out="y"), None)
    onnx.save(b.model(), tmp_path / "model.onnx")
    result = invoke(*command_of(name, tmp_path / "model.onnx"), "--input-shape", "1,3,8,8")
    assert result.code == 2
    assert "2 inputs, so --input-shape needs the name of one" in result.err


@pytest.mark.parametrize("name", REWRITES)
def test_every_rewrite_reads_standard_input(model, name):
    arguments = command_of(name, model)[:-1]
    result = invoke(*arguments, "-", "--no-check", stdin=model.read_bytes())
    assert result.code == 0, result.err
    assert onnx.load_from_string(result.out).graph.node


def test_recalibrate_reads_standard_input(model):
    np.savez(model.with_name("data.npz"), x=np.ones((2, 3, 8, 8), np.float32))
    data = model.with_name("data.npz")
    result = invoke("recalibrate", "-", data, stdin=model.read_bytes())
    assert result.code == 0, result.err
    assert onnx.load_from_string(result.out).graph.node


def test_a_full_check_of_a_swap_does_more(model):
    reports = {}
    for depth in ("quick", "full"):
        result = invoke("bn-to-ln", model, "--check", depth, "--json", "--force")
        assert result.code == 0, result.err
        reports[depth] = json.loads(result.text)["check"]
    assert reports["full"]["verdict"] == reports["quick"]["verdict"] == "equivalent"
    assert reports["full"]["cases"][: len(reports["quick"]["cases"])] == reports["quick"]["cases"]
    names = " ".join(case["name"] for case in reports["full"]["cases"])
    for word in ("normal 7x3x8x8", "normal 1x3x8x8", "extremes", "constant", "large mean"):
        assert word in names
    assert not any(case["distribution"] == "user" for case in reports["full"]["cases"])


def test_a_full_check_of_a_swap_takes_more_of_the_data(model):
    data = model.with_name("data.npz")
    x = np.random.default_rng(0).normal(size=(70, 3, 8, 8)).astype(np.float32)
    np.savez(data, x=x)
    command = ["bn-to-ln", model, "--calibrate", data, "--one-pass", "--check", "full", "--json"]
    result = invoke(*command)
    assert result.code == 0, result.err
    names = json.loads(result.text)["check"]["cases"]
    assert [case["name"] for case in names] == [
        "data batch 1",
        "data batch 2",
        "data batch 3",
    ]


@pytest.mark.parametrize("depth", ["quick", "full"])
def test_failing_inputs_of_a_swap_are_saved(model, monkeypatch, tmp_path, depth):
    def spoiled(plan, loaded):
        apply_swaps(plan, loaded)
        conv = next(node for node in loaded.graph.nodes if node.op == "Conv")
        conv.name, conv.attrs["dilations"] = conv.name, [2, 2]
        conv.attrs["pads"] = [2, 2, 2, 2]

    monkeypatch.setattr("normswap.workflows.swap.apply_swaps", spoiled)
    bad = tmp_path / "bad.npz"
    command = ["bn-to-ln", model, "--check", depth, "--save-failing-inputs", bad, "--json"]
    result = invoke(*command)
    assert result.code == 1, result.err
    check = json.loads(result.text)["check"]
    assert check["verdict"] == "different"
    assert f"Inputs on which the models differ: {bad}" in result.err
    assert not model.with_name("model.ln.onnx").exists()
    with np.load(bad) as saved:
        assert saved["x"].shape[1:] == (3, 8, 8)
    saved = sorted(path.name for path in tmp_path.glob("bad*.npz"))
    assert len(saved) >= 1


def test_nothing_is_saved_where_nothing_fails(model, tmp_path):
    result = invoke("bn-to-ln", model, "--save-failing-inputs", tmp_path / "bad.npz")
    assert result.code == 0, result.err
    assert not (tmp_path / "bad.npz").exists()

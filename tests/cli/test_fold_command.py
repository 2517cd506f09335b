import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from support.build import Builder
from support.cli import invoke
from support.folding import assert_same_function, count

C = 6


def conv_bn(b=None, **attrs):
    b = b or Builder()
    y = b.bn(b.conv(b.input("N", 4, 7, 7), 4, C, **attrs), C, name="norm")
    b.output(b.node("Relu", y))
    return b.model()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(conv_bn(), path)
    return path


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_default_output_is_beside_the_model(model):
    result = invoke("fold", model)
    assert result.code == 0, result.err
    folded = onnx.load(model.with_name("model.folded.onnx"))
    assert count(folded) == 0
    assert_same_function(onnx.load(model), folded)
    assert "1 BatchNormalization: 1 folded" in result.text
    assert "equivalent" in result.text
    assert files(model.parent) == ["model.folded.onnx", "model.onnx"]


def test_output_option(model):
    target = model.with_name("other.onnx")
    assert invoke("fold", model, "-o", target, "--no-check").code == 0
    assert count(onnx.load(target)) == 0


def test_an_existing_file_is_not_overwritten(model):
    target = model.with_name("model.folded.onnx")
    target.write_bytes(b"mine")
    result = invoke("fold", model, "--no-check")
    assert result.code == 2
    assert "--force" in result.err
    assert target.read_bytes() == b"mine"
    assert invoke("fold", model, "--no-check", "--force").code == 0
    assert count(onnx.load(target)) == 0


def test_a_folder_is_no_output(model):
    result = invoke("fold", model, "-o", model.parent, "--force")
    assert result.code == 2
    assert "folder" in result.err


def test_the_model_itself_is_not_the_output_by_accident(model):
    before = model.read_bytes()
    result = invoke("fold", model, "-o", model)
    assert result.code == 2
    assert "--in-place" in result.err
    assert model.read_bytes() == before


def test_in_place(model):
    original = onnx.load(model)
    assert invoke("fold", model, "--in-place").code == 0
    assert_same_function(original, onnx.load(model))
    assert count(onnx.load(model)) == 0
    assert files(model.parent) == ["model.onnx"]


def test_in_place_contradictions(model):
    assert invoke("fold", model, "--in-place", "-o", "x.onnx").code == 2
    assert invoke("fold", "-", "--in-place", stdin=model.read_bytes()).code == 2


@pytest.mark.parametrize("arguments", [[], ["-"], ["-o", "-"]])
@pytest.mark.parametrize("check", ["--check", "--no-check"])
def test_pipe(model, arguments, check):
    result = invoke("fold", *arguments, check, stdin=model.read_bytes())
    assert result.code == 0
    assert count(onnx.ModelProto.FromString(result.out)) == 0
    assert "<stdin>" in result.err  # the report makes way for the model


def test_pipe_into_a_file(model, tmp_path):
    target = tmp_path / "piped.onnx"
    result = invoke("fold", "-o", target, stdin=model.read_bytes())
    assert result.code == 0
    assert "equivalent" in result.text
    assert count(onnx.load(target)) == 0


def test_a_model_does_not_go_to_a_terminal(model):
    result = invoke("fold", model, "-o", "-", terminal=True)
    assert result.code == 2
    assert "terminal" in result.err


def test_dry_run_writes_nothing(model):
    result = invoke("fold", model, "--dry-run")
    assert result.code == 0
    assert "1 folded" in result.text
    assert "nothing was written" in result.text
    assert files(model.parent) == ["model.onnx"]


def test_json(model):
    result = invoke("fold", model, "--json")
    report = json.loads(result.out)
    assert report["written"]
    assert report["exit_code"] == 0
    assert report["check"]["verdict"] == "equivalent"
    (entry,) = report["plan"]["folded"]
    assert entry["site"]["node"] == "norm"
    assert entry["route"][0]["op"] == "Conv"
    assert report["size_after"] < report["size_before"]


def test_json_names_the_reason(tmp_path):
    b = Builder()
    b.output(b.bn(b.input("N", C, 4, 4), C))
    path = tmp_path / "kept.onnx"
    onnx.save(b.model(), path)
    report = json.loads(invoke("fold", path, "--json", "--dry-run").out)
    (entry,) = report["plan"]["kept"]
    assert entry["reason"] == "graph-input"
    assert entry["tensor"] == "x"
    assert not report["written"]


@pytest.mark.parametrize(
    ("arguments", "checked"),
    [
        (["--check"], True),
        (["--check", "quick"], True),
        (["--check=full"], True),
        (["--check", "off"], False),
        (["--no-check"], False),
    ],
    ids=str,
)
def test_depth_of_the_check(model, arguments, checked):
    report = json.loads(invoke("fold", *arguments, model, "--json").out)
    assert (report["check"] is not None) == checked
    if checked:
        assert report["check"]["depth"] == ("full" if "full" in arguments[0] else "quick")


def test_quiet_says_nothing(model):
    result = invoke("fold", model, "-q")
    assert (result.code, result.out, result.err) == (0, b"", "")


def test_verbose_lists_every_node(model):
    result = invoke("fold", model, "-v", "--dry-run")
    assert "norm" in result.text
    assert "Conv Conv_conv_" in result.text


def test_many_kept_nodes_are_grouped(tmp_path):
    b = Builder()
    x = b.input("N", C, 4, 4)
    for _ in range(15):
        b.output(b.bn(x, C))
    path = tmp_path / "many.onnx"
    onnx.save(b.model(), path)
    brief, full = invoke("fold", path, "--dry-run"), invoke("fold", path, "--dry-run", "-v")
    assert "and 14 more" in brief.text
    assert full.text.count("graph-input") >= 15


def test_a_model_without_batchnorm_gets_advice(tmp_path):
    b = Builder()
    b.output(b.node("Relu", b.conv(b.input("N", C, 4, 4), C, C, out="z")))
    path = tmp_path / "none.onnx"
    onnx.save(b.model(), path)
    result = invoke("fold", path)
    assert result.code == 0
    assert "TrainingMode.PRESERVE" in result.text
    assert files(tmp_path) == ["none.onnx"]


def test_a_failed_check_writes_nothing(model, monkeypatch, tmp_path):
    """Break the algebra on purpose: the check must catch it."""
    from normswap.graph.formulas import Scaled

    whole = Scaled._made

    def broken(*args):
        wide = whole(*args)
        return wide * 1.01 if wide.ndim == 4 else wide

    monkeypatch.setattr(Scaled, "_made", broken)
    inputs = tmp_path / "failing.npz"
    result = invoke("fold", model, "--save-failing-inputs", inputs)
    assert result.code == 1
    assert "different" in result.text
    assert "nothing was written" in result.text
    assert "failing.npz" in files(tmp_path)
    assert "model.folded.onnx" not in files(tmp_path)
    with np.load(inputs) as saved:
        assert saved["x"].shape[1:] == (4, 7, 7)


@pytest.mark.parametrize(
    ("shape", "code"),
    [("x:5,4,7,7", 0), ("x:2x4x7x7", 0), ("5,4,7,7", 0), ("x:a,b", 2), ("y:1,2", 2), ("x:1,2", 2)],
)
def test_input_shape(model, shape, code):
    result = invoke("fold", model, "--input-shape", shape, "--json")
    assert result.code == code, result.err
    if code == 0:
        batch = int(shape.removeprefix("x:")[0])
        cases = json.loads(result.out)["check"]["cases"]
        assert any(case["shapes"]["x"][0] == batch for case in cases)


def test_a_provider_that_is_not_there(model):
    result = invoke("fold", model, "--provider", "cuda")
    assert result.code == 4
    assert "onnxruntime-gpu" in result.err
    assert files(model.parent) == ["model.onnx"]


def test_a_runtime_that_dies_is_an_error_and_no_traceback(tmp_path):
    # onnxruntime's behaviour on empty optional outputs depends on its version; the tool's does not.
    b = Builder(9)
    y = b.conv(b.input(2, 4, 8, 8), 4, C)
    parameters = [b.const(v) for v in b.statistics(C)]
    b.nodes.append(
        onnx.helper.make_node("BatchNormalization", [y, *parameters], ["y", "", "", "", ""])
    )
    b.output("y")
    path = tmp_path / "dies.onnx"
    onnx.save(b.model(), path)
    result = invoke("fold", path)
    assert result.code in (0, 4)
    assert "Traceback" not in result.err
    if result.code == 4:
        assert files(tmp_path) == ["dies.onnx"]
        assert "dies.onnx" in result.err


BAD = {
    "text.onnx": b"This is a text file, not a model.\n" * 20,
    "empty.onnx": b"",
    "html.onnx": b"<!DOCTYPE html><html><body>404</body></html>",
}


@pytest.mark.parametrize("name", [*BAD, "truncated.onnx", "missing.onnx", "folder.onnx"])
def test_bad_input_is_one_clear_sentence(tmp_path, model, name):
    path = tmp_path / name
    if name in BAD:
        path.write_bytes(BAD[name])
    elif name == "truncated.onnx":
        path.write_bytes(model.read_bytes()[:-100])
    elif name == "folder.onnx":
        path.mkdir()
    before = files(tmp_path)
    result = invoke("fold", path)
    assert result.code == (2 if name == "folder.onnx" else 3)  # which may have models in it
    assert name in result.err
    assert len(result.err.splitlines()) <= 3
    assert "Traceback" not in result.err
    assert files(tmp_path) == before


def test_missing_external_data(tmp_path):
    proto = conv_bn(Builder(seed=3))
    path = tmp_path / "external.onnx"
    onnx.save(proto, path, save_as_external_data=True, size_threshold=0, location="w.bin")
    (tmp_path / "w.bin").unlink()
    result = invoke("fold", path)
    assert result.code == 3
    assert "w.bin" in result.err
    assert files(tmp_path) == ["external.onnx"]


def test_opset_from_the_future(tmp_path):
    proto = conv_bn()
    proto.opset_import[0].version = 9999
    path = tmp_path / "future.onnx"
    path.write_bytes(proto.SerializeToString())
    result = invoke("fold", path)
    assert result.code == 3
    assert "9999" in result.err
    assert files(tmp_path) == ["future.onnx"]


def test_external_data_stays_external(tmp_path):
    proto = conv_bn(Builder(seed=3), kernel=(5, 5))
    path = tmp_path / "external.onnx"
    onnx.save(proto, path, save_as_external_data=True, size_threshold=0, location="w.bin")
    assert invoke("fold", path).code == 0
    assert files(tmp_path) == [
        "external.folded.onnx",
        "external.folded.onnx.data",
        "external.onnx",
        "w.bin",
    ]
    assert_same_function(
        conv_bn(Builder(seed=3), kernel=(5, 5)), onnx.load(tmp_path / "external.folded.onnx")
    )


def test_every_command_has_help():
    from normswap.cli import COMMANDS

    for name in COMMANDS:
        result = invoke(name, "--help")
        assert result.code == 0
        assert result.text.startswith("Usage: normswap")
        assert "\\" not in result.text  # click's marks, which are no text
        *_, examples = result.text.partition("Examples:\n")
        assert all(f"normswap {name} " in line for line in examples.splitlines()), examples


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["fold", "--nonsense"], ["diff", "a", "b", "c"], ["fold", "--seed", "x"]],
)
def test_wrong_usage(arguments):
    result = invoke(*arguments)
    assert result.code == 2
    assert result.err.startswith("error: ")
    known = arguments[:1] if arguments[0] != "nonsense" else []
    assert f"tip: `{' '.join(['normswap', *known, '--help'])}` shows" in result.err


def test_no_command_is_help():
    result = invoke()
    assert (result.code, result.out) == (2, b"")
    assert result.err.startswith("Usage: normswap [OPTIONS] COMMAND")


def test_an_internal_error_is_reported_as_one(model, monkeypatch):
    import normswap.workflows.fold

    def broken(*arguments, **options):
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(normswap.workflows.fold, "make_plan", broken)
    result = invoke("fold", model)
    assert result.code == 4
    assert "surprise" in result.err
    monkeypatch.setenv("NORMSWAP_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        invoke("fold", model)


def test_an_interrupt_leaves_nothing(model, monkeypatch):
    from normswap.workflows.ending import Ending

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Ending, "checked", interrupted)
    result = invoke("fold", model)
    assert result.code == 130
    assert files(model.parent) == ["model.onnx"]


def test_the_module_runs(model):
    done = subprocess.run(
        [sys.executable, "-m", "normswap", "fold", str(model), "--dry-run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "1 folded" in done.stdout

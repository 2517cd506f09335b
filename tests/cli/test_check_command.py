import json

import numpy as np
import pytest
from support.check_models import conv_bn, one_node, save, tensor
from support.cli import invoke

from normswap.errors import ExitCode


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    save(folder / "a.onnx", conv_bn(side=8))
    save(folder / "folded.onnx", conv_bn(side=8, folded=True))
    save(folder / "spoiled.onnx", conv_bn(side=8, folded=True, scale=1.01))
    save(folder / "constant.onnx", one_node("Mul", weights=[tensor("w", np.zeros(4, "f"))]))
    (folder / "text.onnx").write_text("hello")
    np.save(folder / "data.npy", np.ones((3, 3, 8, 8), np.float32))
    np.save(folder / "wrong.npy", np.ones((3, 3, 8, 9), np.float32))
    return folder


def run(home, *arguments):
    names = [
        str(home / a) if a.endswith((".onnx", ".npy", ".npz", ".json")) else a for a in arguments
    ]
    result = invoke("check", *names)
    return result.code, result.text or result.err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["a.onnx", "folded.onnx"], ExitCode.OK, "equivalent, proved: a.onnx and folded.onnx"),
        (["a.onnx", "spoiled.onnx"], ExitCode.FINDINGS, "different: a.onnx and spoiled.onnx"),
        (["a.onnx", "constant.onnx"], ExitCode.FINDINGS, "have different inputs or outputs"),
        (["a.onnx", "text.onnx"], ExitCode.MODEL, "text.onnx is a text file, not an ONNX model"),
        (["a.onnx", "absent.onnx"], ExitCode.MODEL, "doesn't exist"),
        (["a.onnx", "a.onnx", "--load-inputs", "wrong.npy"], ExitCode.MODEL, "shape"),
        (["a.onnx", "a.onnx", "--provider", "cuda9"], ExitCode.RUN, "'cuda9' is not available"),
        (["a.onnx", "a.onnx", "--timeout", "0.01"], ExitCode.RUN, "longer than"),
        (["constant.onnx", "constant.onnx"], ExitCode.OK, "equivalent, proved"),
        (["constant.onnx", "constant.onnx", "--no-arbiter"], ExitCode.INCONCLUSIVE, "inconclusive"),
        ([], ExitCode.USAGE, "No model was given to check"),
        (["a.onnx"], ExitCode.USAGE, "nothing to compare"),
        (["a.onnx", "a.onnx", "--check", "deep"], ExitCode.USAGE, "deep"),
        (["a.onnx", "a.onnx", "--check", "off"], ExitCode.USAGE, "'off'"),
        (["a.onnx", "a.onnx", "--depth", "full"], ExitCode.USAGE, "--depth"),
        (["-", "-"], ExitCode.USAGE, "Only one of the two models"),
        (
            ["a.onnx", "a.onnx", "--input-shape", "q:1,2"],
            ExitCode.USAGE,
            "input 'q', but the model has no such input",
        ),
        (["a.onnx", "a.onnx", "--input-shape", "one,two"], ExitCode.USAGE, "is not an input shape"),
        (["a.onnx", "a.onnx", "--input-shape", "1.5,2"], ExitCode.USAGE, "is not an input shape"),
        (["a.onnx", "a.onnx", "--symbolic-dim", "N"], ExitCode.USAGE, "NAME=VALUE"),
        (["a.onnx", "a.onnx", "--symbolic-dim", "N=x"], ExitCode.USAGE, "not a valid size"),
        (["a.onnx", "a.onnx", "--val-range", "3"], ExitCode.USAGE, "not a range"),
        (["a.onnx", "a.onnx", "--rtol", "small"], ExitCode.USAGE, "not a number"),
        (["a.onnx", "a.onnx", "--atol", "-1"], ExitCode.USAGE, "a tolerance is 0 or more"),
        (
            ["a.onnx", "a.onnx", "--atol", "zzz:1"],
            ExitCode.USAGE,
            "output 'zzz', but the model has no such output",
        ),
        (["a.onnx", "--rejudge", "r.json"], ExitCode.USAGE, "can't be given a model"),
        (["--rejudge", "absent.json"], ExitCode.MODEL, "not a check report"),
    ],
)
def test_exit_codes(home, arguments, code, word):
    found, said = run(home, *arguments)
    assert (found, word in said) == (code, True), said


def test_the_options_of_a_full_call(home):
    arguments = ["a.onnx", "folded.onnx", "--input-shape", "2x3x8x8", "--symbolic-dim", "N=2"]
    arguments += ["--val-range", "x:-1,1", "--seed", "3", "--self-test", "2", "--batch-invariant"]
    found, said = run(home, *arguments[:4], *arguments[6:-1], "-v")
    assert found == ExitCode.OK, said
    assert "self-test: 2 of 2 planted faults were detected" in said


def test_the_table_names_what_was_allowed(home):
    _, said = run(home, "a.onnx", "spoiled.onnx")
    words = ("output", "deployed", "noise", "float64", "allowed", "not equal: 'y', computed by")
    for word in words:
        assert word in said
    assert "\x1b" not in said


def test_quiet_is_one_line(home):
    _, said = run(home, "a.onnx", "folded.onnx", "-q")
    assert said.count("\n") == 1


def test_json_can_be_judged_again(home):
    code, said = run(home, "a.onnx", "spoiled.onnx", "--json")
    report = json.loads(said)
    assert (code, report["exit_code"], report["verdict"]) == (1, 1, "different")
    (home / "r.json").write_text(said)
    assert run(home, "--rejudge", "r.json", "--rtol", "1", "--atol", "out:1")[0] == ExitCode.OK
    code, said = run(home, "--rejudge", "r.json", "--atol", "1", "--atol", "out:1e-9")
    assert code == ExitCode.FINDINGS  # the output's own tolerance goes before the general one
    assert "smallest atol that passes" in said
    assert run(home, "--rejudge", "r.json")[0] == ExitCode.FINDINGS


def test_golden_files_and_failing_inputs(home):
    saved = [
        "--save-inputs",
        "in.npz",
        "--save-outputs",
        "out.npz",
        "--save-failing-inputs",
        "bad.npz",
    ]
    assert run(home, "a.onnx", "spoiled.onnx", *saved)[0] == ExitCode.FINDINGS
    golden = ["--load-inputs", "in.npz", "--load-outputs", "out.npz"]
    assert run(home, "folded.onnx", *golden)[0] == ExitCode.OK
    assert run(home, "spoiled.onnx", *golden)[0] != ExitCode.OK
    assert run(home, "a.onnx", "a.onnx", *golden)[0] == ExitCode.USAGE
    assert run(home, "a.onnx", "spoiled.onnx", "--load-inputs", "bad.npz")[0] == ExitCode.FINDINGS


def test_one_model_on_two_providers(home):
    code, said = run(home, "a.onnx", "--provider", "cpu", "--against-provider", "cpu", "--json")
    assert code == ExitCode.OK
    assert json.loads(said)["against_provider"] == "cpu"


@pytest.mark.parametrize("place", [0, 1])
def test_one_of_the_models_comes_from_standard_input(home, place):
    for name, code in (("folded.onnx", ExitCode.OK), ("spoiled.onnx", ExitCode.FINDINGS)):
        names = [str(home / "a.onnx")] * 2
        names[place] = "-"
        result = invoke("check", *names, "--json", stdin=(home / name).read_bytes())
        assert result.code == code, result.err
        report = json.loads(result.text)
        assert [report["original"], report["rewritten"]][place] == "<stdin>"
        assert [report["original"], report["rewritten"]][1 - place] == str(home / "a.onnx")
    result = invoke("check", *names, stdin=b"hello")
    assert result.code == ExitCode.MODEL
    assert "<stdin>" in result.err


def test_check_may_stand_alone(home):
    names = [str(home / "a.onnx"), str(home / "folded.onnx")]
    result = invoke("check", "--check", *names, "--json")
    assert (result.code, json.loads(result.text)["depth"]) == (0, "quick")
    result = invoke("check", *names, "--check", "full", "--input-shape", "1,3,8,8", "--json")
    report = json.loads(result.text)
    assert (result.code, report["depth"]) == (0, "full")
    assert {tuple(case["shapes"]["x"]) for case in report["cases"]} == {(1, 3, 8, 8)}


def test_help_needs_no_runtime():
    result = invoke("check", "--help")
    assert result.code == 0
    assert "5 inconclusive" in result.text

"""What dashboards read: JUnit, SARIF and GitHub's annotations, of every command and of errors."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from junitparser import JUnitXml
from support.build import Builder
from support.cli import invoke

C = 4
DATA = Path(__file__).parents[2] / "data" / "sarif-2.1.0.json"
SARIF = jsonschema.Draft4Validator(json.loads(DATA.read_text(encoding="utf-8")))

COMMANDS = {
    "fold": ["fold", "a.onnx", "-o", "c.onnx"],
    "dry run": ["fold", "a.onnx", "--dry-run"],
    "gate": ["fold", "a.onnx", "--dry-run", "--fail-on", "foldable"],
    "explain": ["fold", "a.onnx", "--explain", "stays"],
    "swap": ["bn-to-gn", "--groups", "2", "a.onnx", "--dry-run"],
    "recalibrate": ["recalibrate", "a.onnx", "data.npy", "-o", "d.onnx"],
    "unfold": ["unfold", "c.onnx", "--dry-run"],
    "check": ["check", "a.onnx", "a.onnx"],
    "different": ["check", "a.onnx", "b.onnx"],
    "inspect": ["inspect", "a.onnx"],
    "providers": ["providers"],
    "error": ["fold", "absent.onnx"],
    "usage": ["fold", "a.onnx", "--nonsense"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for name in ("a", "b"):
        b = Builder(17)
        x = b.bn(b.conv(b.input("N", 3, 5, 5), 3, C, name="c"), C, name="folds", positive=True)
        x = b.node("Sigmoid", x)
        b.output(b.bn(x, C, name="stays\x01", positive=True, out="y"))
        if name == "b":  # a weight that has changed after the export
            weight = onnx.numpy_helper.to_array(b.initializers[0]).copy()
            weight[2, 1, 0, 0] += 0.5
            b.initializers[0].CopyFrom(onnx.numpy_helper.from_array(weight, b.initializers[0].name))
        onnx.save(b.model(), folder / f"{name}.onnx")
    np.save(folder / "data.npy", np.random.default_rng(0).normal(size=(8, 3, 5, 5)))
    return folder


@pytest.fixture(scope="module")
def told(home):
    """Return what a command writes in every format, each to a file of its name, run once."""
    done = {}

    def run(name):
        if name not in done:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(home)
                patch.setenv("GITHUB_STEP_SUMMARY", str(home / "summary.md"))
                (home / "summary.md").write_text("before\n", encoding="utf-8")
                forms = ("junit", "sarif", "github", "json", "html")
                asked = [word for form in forms for word in ("--output", f"{form}={form}.out")]
                code = invoke(*COMMANDS[name], *asked).code
                texts = {form: (home / f"{form}.out").read_text("utf-8") for form in forms}
                done[name] = code, texts, (home / "summary.md").read_text("utf-8")
        return done[name]

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_sarif_is_of_the_standards_schema(told, name):
    code, texts, _ = told(name)
    log = json.loads(texts["sarif"])
    SARIF.validate(log)
    (run,) = log["runs"]
    assert run["invocations"][0]["exitCode"] == code
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    failed = code > 1
    assert run["invocations"][0]["executionSuccessful"] is not failed
    assert bool(run["invocations"][0].get("toolExecutionNotifications")) is failed


@pytest.mark.parametrize("name", COMMANDS)
def test_junit_counts_what_was_looked_at(told, name):
    code, texts, _ = told(name)
    suites = JUnitXml.fromstring(texts["junit"].encode())
    assert (suites.failures > 0, suites.errors > 0) == (code == 1, code > 1)
    assert suites.tests == sum(1 for suite in suites for _ in suite) > 0


@pytest.mark.parametrize("name", COMMANDS)
def test_github_is_told_what_is_wrong_and_the_summary_all_of_it(told, name):
    code, texts, summary = told(name)
    lines = texts["github"].splitlines()
    assert bool(lines) is bool(code)
    assert all(line.startswith("::error ") for line in lines)
    assert summary.startswith("before\n")
    assert len(summary.splitlines()) > 1


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_its_verdict(told, name):
    code, texts, _ = told(name)
    assert '<p class="verdict">' in texts["html"]
    assert f"<dt>exit code</dt><dd>{code}</dd>" in texts["html"]


def test_a_fold_is_a_case_a_normalization(told):
    _, texts, _ = told("dry run")
    (suite,) = JUnitXml.fromstring(texts["junit"].encode())
    assert suite.name == "a.onnx"
    cases = {case.name: [type(result).__name__ for result in case.result] for case in suite}
    assert cases == {
        "BatchNormalization folds": [],
        "BatchNormalization stays\ufffd": ["Skipped"],
    }
    _, texts, _ = told("gate")
    (suite,) = JUnitXml.fromstring(texts["junit"].encode())
    assert {case.name for case in suite} == cases.keys()
    log = json.loads(texts["sarif"])
    gate, kept = log["runs"][0]["results"][1], log["runs"][0]["results"][0]
    assert (gate["ruleId"], gate["level"]) == ("foldable", "error")
    assert (kept["ruleId"], kept["level"]) == ("operator", "note")
    (where,) = gate["locations"]
    assert where["physicalLocation"]["artifactLocation"]["uri"] == "a.onnx"
    assert where["logicalLocations"][0]["fullyQualifiedName"] == "folds"
    assert texts["github"].startswith(
        "::error file=a.onnx,title=normswap%3A foldable-normalization::"
    )
    assert "folds: it can be folded into Conv c" in texts["github"]


def test_a_check_names_the_layer(told):
    _, texts, _ = told("different")
    first, *_ = texts["github"].splitlines()
    assert first.startswith(
        "::error file=b.onnx,title=normswap%3A region where the models differ::"
    )
    assert "computed by Conv c" in first


def test_names_and_paths_are_escaped(tmp_path, monkeypatch):
    b = Builder(17)
    b.output(b.bn(b.conv(b.input(1, 3, 5, 5), 3, C), C, name="a%b\nc", out="y"))
    folder = tmp_path / "with, space: 1"
    folder.mkdir()
    onnx.save(b.model(), folder / "m.onnx")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    gate = ["fold", folder / "m.onnx", "--dry-run", "--fail-on", "foldable"]
    line = invoke(*gate, "--output", "github").text.splitlines()[0]
    assert line.startswith("::error file=with%2C space%3A 1/m.onnx,")
    assert "::a%25b%0Ac: it can be folded" in line
    log = json.loads(invoke(*gate, "--output", "sarif").text)
    SARIF.validate(log)
    (artifact,) = log["runs"][0]["artifacts"]
    assert artifact["location"]["uri"] == "with%2C%20space%3A%201/m.onnx"
    monkeypatch.delenv("GITHUB_WORKSPACE")
    log = json.loads(invoke(*gate, "--output", "sarif").text)
    SARIF.validate(log)
    assert log["runs"][0]["artifacts"][0]["location"]["uri"].startswith("file:///")

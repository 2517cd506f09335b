"""A lint from beginning to end: several models, the fix, and what the command ends with."""

import json
import re
from pathlib import Path

import onnx
import pytest
from support.build import Builder
from support.cli import invoke
from support.folding import assert_same_function, count

import normswap
from normswap.lint.rules import rules

PAGE = (Path(normswap.__file__).parents[1] / "docs" / "lint.md").read_text(encoding="utf-8")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a model that folds, one that does not, and a file that is none."""
    for name, op in (("folds", "Relu"), ("clean", "Sigmoid")):
        b = Builder(17)
        x = b.conv(b.input(1, 3, 5, 5), 3, 4)
        if op == "Relu":
            x = b.bn(x, 4, name="norm", positive=True)
        b.output(b.node(op, x, out="y"))
        onnx.save(b.model(), tmp_path / f"{name}.onnx")
    (tmp_path / "broken.onnx").write_text("nothing")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_it_ends_with(home):
    assert invoke("lint", "clean.onnx").code == 0
    result = invoke("lint", "folds.onnx", "clean.onnx")
    assert result.code == 1
    assert re.search(
        r"NS101 +foldable-batchnorm +norm +BatchNormalization can be folded", result.text
    )
    assert "1 warning in 2 models; 1 fixable with --fix" in result.text
    assert invoke("lint", "folds.onnx", "--exit-zero").code == 0
    assert invoke("lint", "folds.onnx", "--ignore", "NS1,NS2").text == "no findings in 1 model\n"
    assert invoke("lint", "clean.onnx", "-q").text == ""
    assert invoke("lint", stdin=(home / "folds.onnx").read_bytes()).code == 1


def test_one_that_can_not_be_read_does_not_stop_the_rest(home):
    result = invoke("lint", "broken.onnx", "folds.onnx", "absent.onnx", "--json")
    data = json.loads(result.text)
    assert (result.code, data["exit_code"]) == (3, 3)
    assert [bool(model["error"]) for model in data["models"]] == [True, False, True]
    assert [finding["code"] for finding in data["models"][1]["findings"]] == ["NS101"]
    assert invoke("lint", "broken.onnx", "folds.onnx", "--exit-zero").code == 3
    with pytest.raises(normswap.ModelError, match="text file"):
        normswap.lint("broken.onnx")


def test_a_fix_is_a_fold_in_place(home):
    before = onnx.load("folds.onnx")
    clean = (home / "clean.onnx").read_bytes()
    result = invoke("lint", "folds.onnx", "clean.onnx", "--fix", "--json")
    data = json.loads(result.text)
    assert (result.code, [model["fixed"] for model in data["models"]]) == (0, [1, 0])
    after = onnx.load("folds.onnx")
    assert count(after) == 0
    assert_same_function(before, after)
    assert (home / "clean.onnx").read_bytes() == clean
    result = invoke("lint", "--fix", stdin=clean)
    assert (result.code, "--fix needs a model file" in result.err) == (2, True)
    with pytest.raises(normswap.UsageError, match="not read from a file"):
        normswap.lint(before, fix=True)


def test_a_fix_mends_what_is_asked_for_only(home):
    before = (home / "folds.onnx").read_bytes()
    assert invoke("lint", "folds.onnx", "--fix", "--ignore", "NS101").code == 0
    assert (home / "folds.onnx").read_bytes() == before


def test_the_configuration_of_the_folder(home):
    (home / "pyproject.toml").write_text('[tool.normswap.lint]\nignore = ["NS101"]\n')
    assert invoke("lint", "folds.onnx").code == 0
    (home / "mine.toml").write_text("[lint]\nmin-opset = 18\n")
    result = invoke("lint", "folds.onnx", "--config", "mine.toml")
    assert (result.code, "NS401" in result.text) == (1, True)
    (home / "pyproject.toml").write_text("[tool.normswap]\nlint = 3\n")
    result = invoke("lint", "folds.onnx")
    assert (result.code, "pyproject.toml" in result.err) == (2, True)


def test_dashboards_get_a_case_a_rule(home):
    text = invoke("lint", "folds.onnx", "--output", "junit").text
    assert text.count("<testcase") == len(rules())
    assert text.count("<failure") == 1
    line = invoke("lint", "folds.onnx", "--output", "github").text
    assert line.startswith("::warning file=folds.onnx,title=normswap%3A NS101 foldable-batchnorm::")
    assert rules()["NS101"].how in line


def test_rules_are_listed_and_explained():
    listed = invoke("lint", "--list-rules").text
    told = json.loads(invoke("lint", "--list-rules", "--json").text)["rules"]
    assert [rule["code"] for rule in told] == list(rules())
    for rule in rules().values():
        assert re.search(rf"{rule.code} +{rule.name} +{rule.level}", listed)
        text = invoke("lint", "--explain", rule.name).text
        for sentence in (rule.what, rule.why, rule.how):
            assert sentence in text
            assert sentence.endswith(".")
    for word, tip in (("NS1", "lists all rules"), ("NS100", "Did you mean")):
        result = invoke("lint", "--explain", word)
        assert (result.code, tip in result.err) == (2, True)


def test_the_page_has_every_rule():
    rows = re.findall(r"^\| `(NS\d+)` \| `([\w-]+)` \| (\w+) \|", PAGE, re.MULTILINE)
    assert rows == [(rule.code, rule.name, rule.level) for rule in rules().values()]

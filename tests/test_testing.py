"""The assertions, what they say where they don't hold, and the plugin that collects them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from support.build import Builder

import normswap
from normswap import testing

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
C = 4


def network(tail="Sigmoid", *, training=0, scale=1.0):
    """Return a model of which one normalization folds, and one that stays behind `tail`."""
    b = Builder(17)
    x = b.bn(b.conv(b.input(2, 3, 5, 5), 3, C), C, name="folds", positive=True)
    if tail:
        x = b.node(tail, x)
        x = b.bn(x, C, name="/head/stays", positive=True, training_mode=training)
    b.output(b.node("Mul", x, b.const(scale), out="y"), (2, C, 3, 3))
    return b.model()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    onnx.save(network(), folder / "m.onnx")
    onnx.save(network(scale=1.001), folder / "scaled.onnx")
    normswap.fold(folder / "m.onnx", folder / "folded.onnx")
    normswap.bn_to_gn(network("Relu"), folder / "gn.onnx", groups=2, check=None)
    return folder


def said(function, *arguments, **options):
    with pytest.raises(AssertionError) as caught:
        function(*arguments, **options)
    return str(caught.value), caught.value.report


def test_what_is_the_same_passes(models):
    report = testing.assert_equivalent(models / "m.onnx", models / "folded.onnx", require="proved")
    assert report.is_proved


def test_what_is_another_function_is_told_as_numpy_does(models):
    text, report = said(testing.assert_equivalent, models / "m.onnx", models / "scaled.onnx")
    assert report.verdict is normswap.Verdict.DIFFERENT
    head, *_ = text.splitlines()
    assert head == "assert_equivalent: scaled.onnx is not the same function as m.onnx"
    for part in (
        "  Outputs that differ: 1 of 1 (y)",
        "  Mismatched elements: ",
        "  Max absolute difference: ",
        "   REWRITTEN[",
        "What to do: `normswap diff A B`",
    ):
        assert part in text
    worst = report.worst.evidence.verdict_level
    assert f"{worst.max_abs:.6g}" in text


def test_what_is_equivalent_and_not_proved_may_be_too_little(models):
    options = normswap.CheckOptions(proof=False, arbiter=False)
    pair = models / "m.onnx", models / "folded.onnx"
    text, _ = said(testing.assert_equivalent, *pair, options, require="proved")
    assert "folded.onnx is equivalent to m.onnx, but a proof was required" in text
    with pytest.raises(normswap.UsageError, match="require"):
        testing.assert_equivalent(*pair, require="prooved")


def test_batch_norms_are_named_with_what_a_fold_does(models):
    text, report = said(testing.assert_no_batch_norm, models / "m.onnx")
    assert text.startswith("assert_no_batch_norm: m.onnx has 2 BatchNormalizations")
    assert f"BatchNormalization folds ({C} channels): foldable, into Conv" in text
    assert "BatchNormalization /head/stays" in text
    assert "kept by a fold" in text
    assert "`normswap fold` removes those that are foldable (1 of them)" in text
    assert report.foldable == 1
    assert testing.assert_no_batch_norm(models / "m.onnx", but=["/head/*", "folds"])
    assert testing.assert_no_batch_norm(models / "gn.onnx")


def test_a_fold_leaves_none_that_folds(models):
    text, _ = said(testing.assert_no_foldable_batch_norm, models / "m.onnx")
    assert "m.onnx has 1 normalization that a fold can remove" in text
    assert "folds" in text
    assert "stays" not in text
    assert testing.assert_no_foldable_batch_norm(models / "folded.onnx")
    assert testing.assert_no_foldable_batch_norm(models / "m.onnx", but=["fold?"])


def test_training_mode_is_said():
    text, _ = said(testing.assert_no_batch_norm, network(training=1))
    assert "/head/stays (4 channels, in training mode)" in text


def test_group_norms_are_counted(models):
    assert testing.assert_group_norm(models / "gn.onnx", 2, layers=2)
    text, _ = said(testing.assert_group_norm, models / "gn.onnx", 4)
    assert "2 normalizations of gn.onnx should be group normalization with 4 groups" in text
    assert "2 groups)" in text
    text, _ = said(testing.assert_group_norm, models / "gn.onnx", layers=3)
    assert "gn.onnx has 2 group normalizations, but should have 3" in text
    text, _ = said(testing.assert_group_norm, models / "m.onnx")
    assert "2 normalizations of m.onnx should be group normalization, but are not" in text
    text, _ = said(testing.assert_group_norm, models / "folded.onnx", 2)
    assert "What to do: `normswap bn-to-gn --groups 2 MODEL`" in text


def test_none_at_all_is_no_group_norm():
    text, _ = said(testing.assert_group_norm, network(None, scale=2.0), layers=None)
    assert "BatchNormalization folds" in text
    b = Builder(17)
    b.output(b.node("Relu", b.input(2, 3)), (2, 3))
    text, _ = said(testing.assert_group_norm, b.model())
    assert "has 0 group normalizations, but should have one or more" in text


def test_what_cannot_be_read_is_no_failed_assertion(tmp_path):
    with pytest.raises(normswap.ModelError, match="doesn't exist"):
        testing.assert_no_batch_norm(tmp_path / "nothing.onnx")


TESTS = """
    def test_good(normswap):
        normswap.assert_no_foldable_batch_norm({folded!r})

    def test_bad(normswap):
        normswap.assert_equivalent({m!r}, {folded!r})
        normswap.assert_no_batch_norm({m!r})

    def test_other():
        assert True
"""


@pytest.fixture
def session(pytester, models):
    """Run the tests of a project with the plugin, whether it is installed or not."""
    paths = {path.stem: str(path) for path in models.glob("*.onnx")}
    pytester.makepyfile(TESTS.format(**paths))
    plugin = ("-p", "no:normswap", "-p", "_normswap_pytest", "-p", "no:cacheprovider")
    return lambda *arguments: pytester.runpytest_inprocess(*plugin, *arguments)


@pytest.mark.parametrize("ending", ["json", "md", "html"])
def test_a_session_writes_its_reports(session, pytester, ending):
    result = session(f"--normswap-report=out.{ending}")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["normswap: 3 assertions, 1 of them failed; *"])
    text = (pytester.path / f"out.{ending}").read_text(encoding="utf-8")
    assert "test_bad" in text
    assert "has 2 BatchNormalizations, and should have none" in text
    assert "test_other" not in text
    result.stdout.no_fnmatch_line("*raise ReportedAssertionError*")  # the test's own line is shown
    assert not testing.listeners
    if ending == "json":
        told = json.loads(text)
        assert (told["schema"], told["holds"]) == ("normswap/pytest/1", False)
        assert [entry["holds"] for entry in told["assertions"]] == [True, True, False]
        assert told["assertions"][1]["report"]["schema"] == normswap.CheckReport.SCHEMA


def test_processes_of_a_session_write_one_report(pytester, session):
    """Workers import nothing from this process, so that one of two would be missing."""
    pytest.importorskip("xdist")
    result = session("-n1", "--normswap-report=out.json", "-k", "good or other")
    result.assert_outcomes(passed=2)
    assert len(json.loads((pytester.path / "out.json").read_text())["assertions"]) == 1


@pytest.mark.parametrize("file", ["out.txt", "nowhere/out.md"])
def test_no_file_is_said_before_anything_runs(session, file):
    result = session(f"--normswap-report={file}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--normswap-report {file}" in str(result.stderr)


def test_the_plugin_is_registered_and_imports_nothing_by_itself(pytester):
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\nnormswap = "_normswap_pytest"\n' in project
    code = "import sys, _normswap_pytest; sys.exit('normswap' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert not subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode


def test_to_import_the_assertions_is_cheap():
    code = "import sys, normswap.testing; sys.exit('onnx' in sys.modules or 'numpy' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert not subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode

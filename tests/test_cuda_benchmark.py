"""``python -m benchmarks.cuda``: on the CPU all but the numbers of CUDA can be tested."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.runtimes import Runtime

import normswap

ROOT = Path(__file__).parent.parent
JUNIT = """<testsuites><testsuite>
<testcase name="test_a_fold[float32]"/><testcase name="test_a_fold[float16]"/>
<testcase name="test_a_form"><failure message="E   assert 1 == 2">...</failure></testcase>
<testcase name="test_a_device"><skipped message="no GPU"/></testcase>
<testcase name="test_a_limit"><error message="fixture">...</error></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.cuda.{name}")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.cuda", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_writes_its_report(tmp_path):
    output = tmp_path / "RESULTS.md"
    quick = ["--provider", "cpu", "--quick", "--rounds", "1", "--folder", str(tmp_path / "steps")]
    done = run(*quick, "--output", str(output), "errors", "forms", "report")
    assert done.returncode == 0, done.stderr
    text = output.read_text(encoding="utf-8")
    assert "CPUExecutionProvider on device the CPU; onnxruntime" in text
    assert "| constant 1e4 | 0.0e+00 |" in text
    assert text.count("| 1x16x8x8, G=4 |") == 4


def test_a_row_of_checks(program, tmp_path):
    checks = program("checks")
    how = {"provider": "cpu", "proof": True}
    task = checks.Task(ROOT / "models" / "mlp.onnx", "fold", how, twice=True)
    cells, fine = checks.row(task, tmp_path)
    assert cells[:3] == ["mlp", "fold on cpu, with proof, twice", "equivalent, proved, the same"]
    assert fine


def test_without_the_device_it_says_why(tmp_path, monkeypatch):
    Runtime(tmp_path / "site", monkeypatch, raises="CUDA failure 100", devices=[])
    output = tmp_path / "RESULTS.md"
    done = run("--output", str(output))
    assert done.returncode == 4
    assert "the NVIDIA driver lists no device" in done.stderr
    assert not output.exists()


@pytest.mark.parametrize("code", [0, 1])
def test_outcomes_are_counted_and_failures_told(program, monkeypatch, tmp_path, code):
    def pytest_run(command, **how):
        assert how["env"]["NORMSWAP_CUDA_TESTS_ON"] == "cuda"
        (tmp_path / "tests.xml").write_text(JUNIT, encoding="utf-8")
        return subprocess.CompletedProcess(command, code)

    tests, page = program("device_tests"), program("page")
    monkeypatch.setattr(tests.subprocess, "run", pytest_run)
    passed = tests.run(page.Section(tmp_path, "tests", "Tests"), "cuda", tmp_path, 1)
    assert passed == (code == 0)
    shown = (tmp_path / "tests.md").read_text(encoding="utf-8")
    assert "| a fold | 2 | 0 | 0 |" in shown
    assert "| **all** | **2** | **2** | **1** |" in shown
    assert "- `test_a_form`: E assert 1 == 2" in shown


def test_a_pytest_that_dies_is_no_success(program, monkeypatch, tmp_path):
    tests, page = program("device_tests"), program("page")
    monkeypatch.setattr(
        tests.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, -11)
    )
    assert not tests.run(page.Section(tmp_path, "tests", "Tests"), "cuda", tmp_path, 1)
    shown = (tmp_path / "tests.md").read_text(encoding="utf-8")
    assert "pytest ended with exit code -11 and left no report." in shown


def test_forms_that_disagree_are_not_timed(program):
    class Session:
        def __init__(self, value):
            self.value = value

        def result(self):
            return np.full(3, self.value)

    agree = program("forms").agree
    agree({"primitive": Session(1.0), "contrib": Session(1.00001)}, np.float32)
    with pytest.raises(AssertionError, match="contrib is off"):
        agree({"primitive": Session(1.0), "contrib": Session(1.1)}, np.float32)


def test_an_order_that_no_runtime_folds(program, tmp_path):
    path = program("folds").conv_relu_bn(tmp_path / "model.onnx", layers=3, channels=4, side=12)
    plan = normswap.fold(path, tmp_path / "folded.onnx").report.plan
    assert (len(plan.folded), len(plan.kept)) == (3, 0)

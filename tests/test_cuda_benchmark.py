"""``python -m benchmarks.cuda``: on the CPU all but the numbers of CUDA can be tested."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from support.runtimes import Runtime

ROOT = Path(__file__).parent.parent
JUNIT = """<testsuites><testsuite>
<testcase name="test_a_fold[float32]"/><testcase name="test_a_fold[float16]"/>
<testcase name="test_a_form"><failure message="E   assert 1 == 2">...</failure></testcase>
<testcase name="test_a_device"><skipped message="no GPU"/></testcase>
<testcase name="test_a_limit"><error message="fixture">...</error></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def program():
    spec = importlib.util.spec_from_file_location("cuda_benchmark", ROOT / "benchmarks" / "cuda.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    quick = ["--provider", "cpu", "--quick", "--no-tests", "--rounds", "1"]
    done = run(*quick, "--output", str(output))
    assert done.returncode == 0, done.stderr
    text = output.read_text(encoding="utf-8")
    assert "CPUExecutionProvider on device the CPU; onnxruntime" in text
    assert "| digits_resnet | fold | equivalent |" in text
    assert text.count("| 1x16x8x8, G=4 |") == 6


def test_without_the_device_it_says_why(tmp_path, monkeypatch):
    Runtime(tmp_path / "site", monkeypatch, raises="CUDA failure 100", devices=[])
    output = tmp_path / "RESULTS.md"
    done = run("--output", str(output))
    assert done.returncode == 4
    assert "the NVIDIA driver shows no device" in done.stderr
    assert not output.exists()


@pytest.mark.parametrize("code", [0, 1])
def test_outcomes_are_counted_and_failures_told(program, monkeypatch, code):
    def pytest_run(command, **how):
        assert how["env"]["NORMSWAP_CUDA_TESTS_ON"] == "cuda"
        Path(command[-1].partition("=")[2]).write_text(JUNIT, encoding="utf-8")
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(program.subprocess, "run", pytest_run)
    shown, passed = program.run_tests("cuda")
    assert passed == (code == 0)
    assert "| a fold | 2 | 0 | 0 |" in shown
    assert "| **all** | **2** | **2** | **1** |" in shown
    assert "- `test_a_form`: E assert 1 == 2" in shown


def test_a_pytest_that_dies_is_no_success(program, monkeypatch):
    monkeypatch.setattr(
        program.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, -11)
    )
    shown, passed = program.run_tests("cuda")
    assert shown == "pytest ended with exit code -11 and left no report."
    assert not passed


def test_forms_that_disagree_are_not_timed(program):
    class Session:
        def __init__(self, value):
            self.value = value

        def result(self):
            return program.np.full(3, self.value)

    program._agree({"primitive": Session(1.0), "contrib": Session(1.00001)}, program.np.float32)
    with pytest.raises(AssertionError, match="contrib is off"):
        program._agree({"primitive": Session(1.0), "contrib": Session(1.1)}, program.np.float32)

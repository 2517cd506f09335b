"""What a command imports, which is most of what a person waits for; and how a process ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.check_models import conv_bn, save

HEAVY = {"numpy", "onnx", "onnx_graphsurgeon", "onnxruntime", "ml_dtypes", "msgspec", "rich"}
WORDS = {
    "help": [["--help"], ["--version"], ["fold", "--help"], ["check", "--help"], ["lint", "-h"]],
    "completion": [["normswap", ""], ["normswap", "fold", "--"], ["normswap", "bn-to-gn", "--"]],
}


def imported(code, *arguments):
    """Return what a process imports that runs some code with arguments."""
    code = f"import sys, os\nfrom normswap.cli import run\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_little():
    modules = imported(f"for each in {WORDS['help']}: run(each)")
    assert not HEAVY & modules


def test_completion_imports_little():
    code = f"""os.environ["_NORMSWAP_COMPLETE"] = "zsh_complete"
for words in {WORDS["completion"]}:
    os.environ.update(COMP_WORDS=" ".join(words), COMP_CWORD=str(len(words) - 1))
    try:
        run([])
    except SystemExit:
        pass
    if words[1] == "":
        assert not {{"normswap.cli.fold", "normswap.cli.check"}} & sys.modules.keys()"""
    assert not HEAVY & imported(code)


def test_an_unchecked_fold_imports_no_check(tmp_path):
    path = tmp_path / "model.onnx"
    save(path, conv_bn(side=8))
    modules = imported("assert run([*sys.argv[1:]]) == 0", "fold", path, "--no-check", "-q")
    assert (tmp_path / "model.folded.onnx").exists()
    unused = {"onnxruntime", "rich", "msgspec", "normswap.inputs", "normswap.proof"}
    unused |= {"normswap.check", "normswap.runtime", "normswap.inspection", "normswap.groupnorm"}
    assert not unused & modules


def test_a_checked_fold_imports_no_reference_evaluator(tmp_path):
    path = tmp_path / "model.onnx"
    save(path, conv_bn(side=8))
    modules = imported("assert run([*sys.argv[1:]]) == 0", "fold", path, "-q")
    assert "normswap.proof.judge" in modules
    unused = {"onnxruntime", "onnx.reference", "rich", "normswap.proof.arbiter"}
    assert not unused & modules


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_report_that_can_not_be_written_is_an_error():
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "normswap", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=buffered,
            check=False,
        )
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, "error: No space left on device.")

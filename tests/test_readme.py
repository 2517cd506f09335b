"""What the README says is true: its commands run, its tables are complete."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.sharing import machine

from normswap.errors import ExitCode
from normswap.graph.reasons import Reason

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands():
    lines = [line for block in blocks("console") for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what the commands need, in which ``normswap`` is on the path.

    The commands run in it one after another, as a reader would run them.
    """
    tmp_path = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "models", tmp_path / "models")
    for made in (tmp_path / "models").glob("*.folded.onnx"):
        made.unlink()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "normswap"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m normswap "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(command, folder):
    command = command.replace("/tmp/", f"{folder}/")  # noqa: S108 - the README's, not ours
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env={
            **machine(),
            "PATH": f"{folder}/bin:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "80",
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the README's commands are for a POSIX shell")
def test_commands_run(checkout):
    for command in commands():
        # Installing is what a fresh environment is for; here the checkout is on the path already.
        installed = re.sub(r"^pip install \S+ && ", "", command)
        if installed.startswith("python -m pytest"):
            assert (ROOT / "tests").is_dir()
            continue
        done = run(installed, checkout)
        assert done.returncode == 0, (command, done.stderr)
        if "--unfold" in command:
            assert re.search(r"calibrated .* \d+\.\d% \(\d+ of 135 samples\)", done.stdout)
            assert "on 135 labels of the held-out samples: original " in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="the README's commands are for a POSIX shell")
def test_the_first_two_commands_run_in_order_and_again(tmp_path):
    """As in a fresh clone, but for the tests that have nothing to do with what the first writes."""
    install, test = (command for command in commands() if command.startswith("pip install"))
    for name in ("models", "tests/models", "tests/support"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for made in (tmp_path / "models").glob("*.folded.onnx"):
        made.unlink()
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for name, module in (("normswap", "normswap"), ("python", "")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module and "-m " + module} "$@"\n')
        program.chmod(0o755)
    for command in (install, test) * 2:
        installed = re.sub(r"^pip install \S+ && ", "", command)
        if "pytest" in installed:
            installed = re.sub(r" -n \d+", "", installed) + " tests/models -k listed -q"
        done = run(installed, tmp_path)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert (tmp_path / "models" / "digits_resnet.folded.onnx").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="the README's commands are for a POSIX shell")
def test_the_capture_is_what_the_command_prints(checkout):
    command, _, shown = blocks("console")[0].partition("\n")
    (checkout / "models" / "partial.folded.onnx").unlink(missing_ok=True)
    printed = run(command.removeprefix("$ "), checkout).stdout

    def without_figures(text):
        return re.sub(r"\d+(\.\d+)?(e-\d+)?", "#", text).split()

    assert without_figures(printed) == without_figures(shown)


def test_every_reason_is_explained():
    rows = dict(re.findall(r"^\| `([a-z][a-z-]+)` \| (.*) \|$", README, flags=re.MULTILINE))
    assert rows == {reason.value: reason.explanation for reason in Reason}


def test_every_exit_code_is_explained():
    rows = re.findall(r"^\| (\d) \| .+ \|$", README, flags=re.MULTILINE)
    assert [int(code) for code in rows] == sorted(ExitCode)


def test_every_option_of_fold_is_named():
    from normswap.cli.fold import fold_command

    names = {name for option in fold_command.params for name in option.opts if name[:2] == "--"}
    assert names <= set(re.findall(r"--[a-z-]+", README)) | {
        "--check",
        "--quiet",
        "--verbose",
        "--output",
    }


def test_the_python_example_runs(checkout):
    (code,) = blocks("python")
    code = code.replace("/tmp/", f"{checkout.as_posix()}/")  # noqa: S108 - the README's
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout,
        env={**machine(), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

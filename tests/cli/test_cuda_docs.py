"""What docs/cuda.md says is so."""

import re
import shlex
from pathlib import Path

import pytest
from support.build import Builder
from support.check_models import conv_bn, save
from support.cli import invoke
from support.runtimes import Runtime

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "cuda.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]


@pytest.mark.parametrize("line", LINES)
def test_commands(line, tmp_path, monkeypatch):
    Runtime(tmp_path / "site", monkeypatch)
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.onnx", conv_bn(side=8))
    save(tmp_path / "b.onnx", conv_bn(side=8, folded=True))
    program, *arguments = shlex.split(line)
    assert program == "normswap"
    if arguments[0] == "bn-to-gn":  # CUDA alone has the kernel that auto takes
        arguments += ["--form", "instancenorm"]
        b = Builder(17)
        b.output(b.bn(b.conv(b.input(2, 3, 8, 8), 3, 32), 32), None)
        save(tmp_path / "a.onnx", b.model())
    result = invoke(*arguments)
    assert result.code == 0, result.err


def test_the_dependencies_to_install_by_hand_are_all():
    tomllib = pytest.importorskip("tomllib")
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = {
        re.split(r"[<>=~ ]", line)[0] for line in data["project"]["dependencies"] if ";" not in line
    }
    (by_hand,) = re.findall(r"--no-deps normswap\n    pip install (.*)", TEXT)
    # numpy comes with each of the others that needs it.
    assert set(by_hand.split()) | {"onnxruntime", "numpy"} == names

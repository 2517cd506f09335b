"""The commands of docs/bn-to-gn.md do what it says, and the options that it names are all."""

import re
import shlex
import shutil
from pathlib import Path

import click
import onnx
import pytest
from support.cli import invoke
from support.swapping import ops

from normswap.cli.bn_to_gn import bn_to_gn_command
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.forms.base import OLDEST

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "bn-to-gn.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
FIGURE = re.compile(r"-?\d+(\.\d+)?(e[-+]\d+)?")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the models that the commands are about."""
    shutil.copytree(ROOT / "models", tmp_path / "models")
    for made in (tmp_path / "models").glob("*.gn.onnx"):
        made.unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command):
    """Run a command, which may read a file through cat and write one."""
    command, _, written = command.partition(" > ")
    before, _, after = command.rpartition(" | ")
    stdin = Path(shlex.split(before)[1]).read_bytes() if before else None
    program, *arguments = shlex.split(after)
    assert program == "normswap"
    result = invoke(*arguments, stdin=stdin)
    assert result.code == 0, result.err
    if written:
        Path(written).write_bytes(result.out)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command, checkout):
    before = {path.name for path in (checkout / "models").iterdir()}
    run(command)
    written = {path.name for path in (checkout / "models").iterdir()} - before
    if "--dry-run" in command:
        assert not written
        return
    assert (".npz" in {Path(name).suffix for name in written}) == ("--map" in command)
    (name,) = (name for name in written if name.endswith(".onnx"))
    left = ops(onnx.load(checkout / "models" / name)).count("BatchNormalization")
    assert left == (8 if "recalibrate" in command else 0)


def test_the_report_that_is_shown(checkout, monkeypatch):
    """Word by word; the figures are those of another machine, with cores and a recent runtime."""
    del checkout
    monkeypatch.setattr("normswap.groupnorm.planner.threads_here", lambda: 2)
    monkeypatch.setattr("normswap.groupnorm.forms.layernorm.is_precise_on_cpu", lambda: True)
    shown = re.search(r"```console\n(.*?)\n```\n\n```\n(.*?)```", TEXT, re.DOTALL)
    told = run(shown[1]).text

    def words(text):
        return [FIGURE.sub("0", line).split() for line in text.splitlines() if line.strip()]

    assert words(told) == words(shown[2])


def test_every_option_is_documented():
    shared = {"-o", "-q", "-v", "--output", "--quiet", "--verbose", "--json", "--format", "--force"}
    shared |= {"--in-place", "--no-check", "--seed", "--input-shape", "--timeout"}
    shared |= {"--provider", "--provider-option", "--device-id", "--gpu-mem-limit"}
    shared |= {"--report", "--from-file", "--jobs", "--resume", "--scheduler"}
    names = {
        name
        for parameter in bn_to_gn_command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }
    assert sorted(name for name in names - shared if f"`{name}" not in TEXT) == []


def test_every_form_is_documented():
    rows = {name: re.search(rf"^\| `{name}` \|.*", TEXT, re.MULTILINE) for name in FORMS}
    assert [name for name, row in rows.items() if row is None] == []
    for name, form in FORMS.items():
        assert form.opset == OLDEST or f"opset {form.opset}" in rows[name][0], name

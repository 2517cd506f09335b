"""The commands of docs/check.md do what it says."""

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.check_models import conv_bn, save

from normswap.check.verdict import RULES
from normswap.cli.check import check_command

DOCS = Path(__file__).parents[2] / "docs" / "check.md"
TEXT = DOCS.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_commands(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.onnx", conv_bn(side=8))
    save(tmp_path / "b.onnx", conv_bn(side=8, folded=True))
    for line in block.splitlines():
        program, command, *arguments = shlex.split(line)
        assert (program, command) == ("normswap", "check")
        result = CliRunner().invoke(check_command, arguments)
        assert result.exit_code == 0, result.output


def test_every_option_is_documented():
    hidden = {"-q", "-v", "--quiet", "--verbose", "--help"}
    hidden |= {"--no-arbiter", "--arbiter", "--timeout", "--memory-limit"}
    hidden |= {"--provider", "--provider-option"}
    names = {
        name
        for parameter in check_command.params
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    assert not [name for name in names - hidden if name not in TEXT]


def test_the_numbers_are_those_of_the_rules():
    assert RULES.function == 8
    assert RULES.noise_bound * (2.0**-24) ** 0.5 == pytest.approx(5e-4, rel=0.05)
    assert RULES.noise_bound * (2.0**-11) ** 0.5 == pytest.approx(0.04, rel=0.12)

"""The commands and the Python of the pages on what a pipeline asks do what these say."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from support.cli import invoke

from normswap.cli.one import done

ROOT = Path(__file__).parents[2]
PAGES = ["inspect", "lint", "outputs", "diff", "fleets"]


@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs(page, tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    shutil.copytree(ROOT / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    # Who does what many models need has tests of its own.
    monkeypatch.setattr("normswap.fleet.pool.run", lambda jobs, *how: map(done, jobs))
    lines = [
        line
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    assert lines
    for line in lines:
        command, _, expected = line.partition(" || test $? = ")
        sign, program, *arguments = shlex.split(command.replace("/tmp/", ""))  # noqa: S108 - the page's
        assert (sign, program) == ("$", "normswap")
        result = invoke(*arguments)
        assert result.code == int(expected or 0), (line, result.err)
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, f"docs/{page}.md", "exec"), {})  # noqa: S102 - our own page
    capsys.readouterr()


def test_every_relative_link_of_the_pages_is_there():
    for page in PAGES:
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", text):
            assert not target or (ROOT / "docs" / target).exists(), (page, target)

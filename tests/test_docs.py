"""What the documentation shows is so: its commands and its Python run, its links lead somewhere."""

import os
import re
import sys
from pathlib import Path

import pytest
from support.pages import ROOT, Reader, alike, blocks_of, commands_of, lay_out

from normswap.cli.one import done

DOCS = ROOT / "docs"

ELSEWHERE = {
    "api.md": "tests/test_public_api.py",
    "bn-to-gn.md": "tests/groupnorm/test_docs.py",
    "ci.md": "tests/test_action.py",
    "check.md": "tests/check/test_docs.py",
    "cuda.md": "tests/cli/test_cuda_docs.py",
}
"""Pages that a test of their own runs."""

PAGES = {
    str(path.relative_to(DOCS).as_posix()): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.rglob("*.md"))
}


@pytest.mark.skipif(sys.platform == "win32", reason="the commands are for a POSIX shell")
@pytest.mark.filterwarnings("ignore")  # those of other packages' own code
@pytest.mark.parametrize(
    "name", [name for name in PAGES if name not in ELSEWHERE and blocks_of(PAGES[name])]
)
def test_the_page_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(lay_out(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    # What a swap chooses hangs on the machine: the pages are of one with cores, a recent runtime.
    monkeypatch.setattr("normswap.groupnorm.planner.threads_here", lambda: 2)
    monkeypatch.setattr("normswap.groupnorm.forms.layernorm.is_precise_on_cpu", lambda: True)
    # Who does what many models need has tests of its own.
    monkeypatch.setattr("normswap.fleet.pool.run", lambda jobs, *how: map(done, jobs))
    reader = Reader()
    for block in blocks_of(PAGES[name]):
        if block.is_skipped:
            continue
        for shown in reader.run(block):
            assert not shown.lines or alike(shown.lines, shown.told), (
                f"{name} shows something else; python tests/support/pages.py docs/{name}",
                shown.command,
                shown.told,
            )


def test_the_other_pages_have_a_test_of_their_own():
    for name, test in ELSEWHERE.items():
        assert name in (ROOT / test).read_text(encoding="utf-8"), (name, test)


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert set(PAGES) <= listed


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_is_there(name):
    for target in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#[^)]*)?\)", PAGES[name]):
        path = DOCS / Path(name).parent / target
        generated = "reference/" in path.resolve().as_posix()  # from code, when the site is built
        assert not target or path.exists() or generated, (name, target)


def test_what_is_shown_is_compared():
    """The reader itself: a page that shows something else is found."""
    (block,) = blocks_of("```console\n$ echo a 1 \\\n    b\na 2 b\n$ false\n$ echo $?\n1\n```\n")
    assert [shown.command for shown in commands_of(block)] == ["echo a 1 b", "false", "echo $?"]
    assert all(alike(shown.lines, shown.told) for shown in Reader().run(block) if shown.lines)
    assert alike(["a 1", "...", "z"], "a 2\nb\nc\nz\n")
    assert not alike(["a", "c"], "a\nb\nc\n")
    (block,) = blocks_of("```console\n$ false\n```\n")
    with pytest.raises(AssertionError):
        Reader().run(block)
    (block,) = blocks_of("```sh\n# not run by the tests: there is no GPU\nfalse\n```\n")
    assert block.is_skipped

"""The commands and the Python that pages show, run as a reader would run them.

A block of the language ``console`` has commands behind ``$``, and may show what they print; one of
``sh`` has commands alone. They run one after another in a folder with the repository's ``models/``,
as the page's blocks of ``python`` do, which share their names. A command ends with 0, unless the
page asks for its exit code with ``echo $?``, or says it with ``|| test $? = 1``. A block that is
not run says why in its first line: ``# not run by the tests: there is no GPU``; so does each of the
language ``yaml``. One that imports torch is run where torch is.

``python tests/support/pages.py docs/PAGE.md`` writes into a page what its commands print now.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from support.cli import invoke

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
RUN = frozenset({"console", "sh", "python", "yaml"})
SKIPPED = re.compile(r"# not run by the tests: \S.*")
FIGURE = re.compile(r"-?\d+(\.\d+)?(e[-+]?\d+)?")
LEFT_OUT = "..."
"""A line that stands for any number of lines."""


@dataclass
class Block:
    """A block of code: its language, its text without its indentation, and where that is."""

    language: str
    text: str
    indent: str
    span: tuple[int, int]

    @property
    def is_skipped(self) -> bool:
        """Whether it says why it is not run, or needs torch where there is none."""
        if SKIPPED.match(self.text):
            return True
        needs_torch = re.search(r"^import torch|^from torch", self.text, re.MULTILINE)
        return bool(needs_torch) and importlib.util.find_spec("torch") is None


@dataclass
class Shown:
    """A command, as it stands on the page and in one line, what the page shows, what it printed."""

    source: list[str]
    command: str
    lines: list[str] = field(default_factory=list)
    told: str = ""


def blocks_of(page: str) -> list[Block]:
    """Return the blocks that are code to be run."""
    found = []
    for match in FENCE.finditer(page):
        indent, language, text = match.groups()
        if language in RUN:
            bare = "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))
            found.append(Block(language, bare, indent, match.span(3)))
    return found


def commands_of(block: Block) -> list[Shown]:
    """Return the commands of a block of console or sh."""
    found: list[Shown] = []
    goes_on = False
    for line in block.text.splitlines():
        if goes_on:
            found[-1].source.append(line)
            found[-1].command += f" {line.strip()}"
        elif line.startswith("$ "):
            found.append(Shown([line], line.removeprefix("$ ")))
        elif block.language == "console":
            assert found, f"{line!r} stands before the first $"
            found[-1].lines.append(line)
            continue
        elif line.strip() and not line.startswith("#"):
            found.append(Shown([line], line))
        else:
            continue
        goes_on = line.endswith("\\")
        found[-1].command = found[-1].command.removesuffix("\\").rstrip()
    return found


class Reader:
    """Runs a page's blocks in the present folder."""

    def __init__(self) -> None:
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.code = 0

    def run(self, block: Block) -> list[Shown]:
        """Run a block; return its commands with what they printed."""
        assert block.language != "yaml", "it says why it is not run"
        if block.language == "python":
            text = block.text.replace("/tmp/", "")  # noqa: S108 - as in commands
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(text, "a block of the page", "exec"), self.names)  # noqa: S102
            return []
        shown = commands_of(block)
        for number, each in enumerate(shown):
            asked = each.command.strip() == "echo $?"
            if asked:
                each.told = f"{self.code}\n"
                self.code = 0
                continue
            command, _, expected = each.command.partition(" || test $? = ")
            self.code, each.told = _run(command)
            is_told = number + 1 < len(shown) and shown[number + 1].command.strip() == "echo $?"
            if not is_told:
                assert self.code == int(expected or 0), (each.command, self.code, each.told)
        return shown


def _run(command: str) -> tuple[int, str]:
    """Run a command, one of normswap's in this process; return its exit code and what it prints."""
    command = command.replace("/tmp/", "")  # noqa: S108 - the page's; here it is the folder
    words = shlex.split(command)
    if words[0] == "normswap" and not {"|", ">", "<", "&&", ";"} & set(words):
        result = invoke(*words[1:])
        said = [line for line in result.err.splitlines() if line.startswith(("error:", "tip:"))]
        return result.code, result.text + "".join(f"{line}\n" for line in said)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "normswap"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m normswap "$@"\n')
        program.chmod(0o755)
        (Path(folder) / "python").symlink_to(sys.executable)
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            env={**os.environ, "PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


def alike(shown: list[str], told: str) -> bool:
    """Whether a page shows what a command tells: word by word, whatever the figures are."""

    def words(lines: list[str]) -> list[str]:
        return [" ".join(FIGURE.sub("0", line).split()) + "\n" for line in lines if line.strip()]

    any_lines, left_out = "(?:.*\n)*", f"{LEFT_OUT}\n"
    lines = (any_lines if line == left_out else re.escape(line) for line in words(shown))
    return re.fullmatch("".join(lines), "".join(words(told.splitlines()))) is not None


def lay_out(folder: Path) -> Path:
    """Put the repository's models into a folder, and nothing made from them; return it."""
    made = shutil.ignore_patterns("*.folded.onnx", "*.py")
    shutil.copytree(ROOT / "models", folder / "models", ignore=made)
    return folder


def rewrite(path: Path) -> None:
    """Write into a page what its commands print now; what it leaves out stays left out."""
    page = path.read_text(encoding="utf-8")
    made, at, reader = [], 0, Reader()
    for block in blocks_of(page):
        if block.is_skipped:
            continue
        shown = reader.run(block)
        if block.language != "console":
            continue
        lines = []
        for each in shown:
            lines += each.source
            keep = not each.lines or LEFT_OUT in each.lines or alike(each.lines, each.told)
            lines += each.lines if keep else each.told.rstrip().splitlines()
        made.append(page[at : block.span[0]])
        made += [f"{block.indent}{line}".rstrip() + "\n" for line in lines]
        at = block.span[1] - len(block.indent)
    path.write_text("".join(made) + page[at:], encoding="utf-8")


if __name__ == "__main__":
    for target in [Path(name).resolve() for name in sys.argv[1:]]:
        with tempfile.TemporaryDirectory() as temporary:
            os.chdir(lay_out(Path(temporary)))
            rewrite(target)

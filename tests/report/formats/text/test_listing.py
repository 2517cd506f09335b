"""Tables and sentences at any width: whole where they fit, row by row where they don't."""

import io
import re

import pytest
from support.cli import invoke

from normswap.report.formats.text import console as module
from normswap.report.formats.text.console import new_table, printing

ANSI = re.compile(r"\x1b\[[0-9;]*m")

NAME = "/blocks/blocks.11/attention/norm/BatchNormalization"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    def show(width, *objects):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")
        stream = Terminal()
        with printing(stream) as console:
            for each in objects:
                console.print(each)
        lines = ANSI.sub("", stream.getvalue()).splitlines()
        assert max(map(len, lines)) <= width
        return [line.rstrip() for line in lines]

    return show


def table(*rows):
    made = new_table("kept", "reason", "because")
    for row in rows:
        made.add_row(*row)
    return made


ROW = (NAME, "[yellow]several-readers[/]", "the tensor before it is also read by Concat /Concat")


def test_a_table_that_fits_is_one(shown):
    title, row = shown(140, table(ROW))
    assert title.split() == ["kept", "reason", "because"]
    assert row.split("   ") == [f"  {NAME}", "several-readers", ROW[2]]


def test_a_sentence_is_wrapped_in_its_column(shown):
    lines = shown(110, table(ROW))
    assert NAME in lines[1]
    place = lines[0].index("because")
    assert " ".join((lines[1][place:], lines[2].strip())) == ROW[2]
    assert lines[2].index(lines[2].strip()) == place
    assert len(lines) == 3


@pytest.mark.parametrize("width", [60, 80])
def test_a_name_is_never_broken_for_its_neighbours(shown, width):
    title, name, *rest = shown(width, table(ROW, (NAME, "axis", module.LISTS)))
    assert title == "  kept"
    assert name == f"  {NAME}"
    assert rest[0] == "    reason several-readers"
    assert " ".join(map(str.strip, rest[1:-2])) == f"because {ROW[2]}"
    assert rest[-1] == "    reason axis \N{MIDDLE DOT} -v lists all"


def test_a_sentence_goes_on_under_its_first_word(shown):
    lines = shown(60, f"  [red]{NAME}[/]: " + "word " * 12)
    assert lines[0] == f"  {NAME}:"
    assert all(line.startswith("    word") for line in lines[1:])


def test_a_name_is_no_emoji(shown):
    assert shown(60, "conv:key:0") == ["conv:key:0"]


def test_every_command_keeps_to_60_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    for command in (
        ("fold", "models/partial.onnx", "--dry-run", "-v"),
        ("bn-to-gn", "--groups", 4, "models/digits_resnet.onnx", "--dry-run", "-v"),
        ("inspect", "models/partial.onnx"),
        ("lint", "--list-rules"),
        ("unfold", "models/mlp.onnx", "--dry-run"),
        ("providers",),
    ):
        text = ANSI.sub("", invoke(*command, terminal=True).text)
        # A tip has a command to be copied, which a line break would be in.
        lines = [line for line in text.splitlines() if not line.startswith("tip: ")]
        assert max(map(len, lines)) <= 60, command

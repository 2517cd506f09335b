"""Tables and sentences at any width: whole where they fit, row by row where they don't."""

import io
import re

import pytest
from support.cli import invoke

from normswap.report.formats.text.console import printing
from normswap.report.formats.text.listing import LISTS, Listing

ANSI = re.compile(r"\x1b\[[0-9;]*m")

TRAINS = "models/digits_resnet_training.onnx"
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
    made = Listing("kept", "reason", "because")
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
    title, name, *rest = shown(width, table(ROW, (NAME, "axis", LISTS)))
    assert title == "  kept"
    assert name == f"  {NAME}"
    assert rest[0] == "    reason several-readers"
    assert " ".join(map(str.strip, rest[1:-2])) == f"because {ROW[2]}"
    assert rest[-1] == "    reason axis \N{MIDDLE DOT} -v lists all"


def test_a_sentence_goes_on_under_its_first_word(shown):
    lines = shown(60, f"  [red]{NAME}[/]: " + "word " * 12)
    assert lines[0] == f"  {NAME}:"
    assert all(line.startswith("    word") for line in lines[1:])


def test_a_number_keeps_its_unit_and_a_name_is_broken_at_a_part(shown):
    assert shown(30, "it took so many seconds (12.5 s)") == [
        "it took so many seconds",
        "  (12.5 s)",
    ]
    assert shown(30, "a/mlp.onnx  4 folded  → b/mlp.onnx") == [
        "a/mlp.onnx  4 folded",
        "  → b/mlp.onnx",
    ]
    assert shown(30, NAME) == ["/blocks/blocks.11/attention/", "  norm/BatchNormalization"]


def test_a_column_without_a_word_is_left_out(shown):
    title, row = shown(140, table((NAME, "", "its reason")))
    assert title.split() == ["kept", "because"]
    assert row.split("   ") == [f"  {NAME}", "its reason"]


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
        assert max(map(len, text.splitlines())) <= 60, command


def test_a_command_is_in_one_line_however_long(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    text = ANSI.sub("", invoke("fold", TRAINS, "--dry-run", terminal=True).text)
    tip = text[text.index("tip: ") :].splitlines()
    assert tip[0] == "tip: 8 are in training mode:"
    assert tip[1] == f"  `normswap recalibrate --freeze {TRAINS}`"
    assert max(map(len, (*tip[:1], *tip[2:]))) <= 60


def test_an_error_is_wrapped_in_a_terminal_only(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    how = "bn-to-gn", "--groups", 32, "models/digits_resnet.onnx", "--dry-run"
    lines = ANSI.sub("", invoke(*how, terminal=True).err).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[2] == "  /blocks/blocks.0/bn1/BatchNormalization has 16;"
    assert " ".join(map(str.strip, lines)) == " ".join(invoke(*how).err.splitlines())

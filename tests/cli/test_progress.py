"""What is shown while a command runs: nothing at first, then its stage."""

import io
import sys
import time

import pytest
from support.cli import invoke

from normswap.cli import progress as module


class Stream(io.StringIO):
    def __init__(self, *, terminal):
        super().__init__()
        self.isatty = lambda: terminal


@pytest.fixture
def shown(monkeypatch):
    def run(*, terminal=False, quiet=False, patience=0.0):
        stream = Stream(terminal=terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(module, "PATIENCE", patience)
        with module.progress(quiet=quiet) as say:
            time.sleep(0.5)
            say("reading the model")
            say("reading the model")
            say("planning")
            time.sleep(0.5)
        return stream.getvalue()

    return run


def test_nothing_in_a_pipe_or_log(shown):
    assert shown() == ""


def test_one_line_that_goes_away_on_a_terminal(shown):
    text = shown(terminal=True)
    assert "planning" in text
    assert "0:00:0" in text  # for how long
    assert text.endswith("\x1b[2K")  # the line is empty again


def test_a_quick_command_and_a_quiet_one_show_nothing(shown):
    assert shown(terminal=True, patience=60.0) == ""
    assert shown(terminal=True, quiet=True) == ""


def test_no_colour_where_none_is_wanted(shown, monkeypatch):
    coloured = "\x1b[3"  # what sets one of the eight colours of a terminal begins so
    assert coloured in shown(terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured not in shown(terminal=True)
    assert coloured not in invoke("fold", "absent.onnx", terminal=True).err
    monkeypatch.delenv("NO_COLOR")
    assert coloured in invoke("fold", "absent.onnx", terminal=True).err

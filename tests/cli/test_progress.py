"""What is shown while a command runs: nothing at first, then its stage."""

import io
import sys
import time

import pytest

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


def test_a_line_a_stage_in_a_log(shown):
    lines = [line.partition(" (")[0] for line in shown().splitlines()]
    assert lines == ["starting", "reading the model", "planning"]


def test_one_line_that_goes_away_on_a_terminal(shown):
    text = shown(terminal=True)
    assert "planning" in text
    assert text.endswith("\x1b[2K")  # the line is empty again


def test_a_quick_command_and_a_quiet_one_show_nothing(shown):
    assert shown(patience=60.0) == ""
    assert shown(quiet=True) == ""

"""Progress on stderr: silent for a second, then what is being done and for how long."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 1.0  # seconds until a person wonders


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show the present stage of a command, if it lasts.

    On a terminal it is one line that changes and goes away; elsewhere a line a stage, for logs.

    Yields
    ------
    callable
        To be told the stage.
    """
    if quiet:
        yield _say_nothing
        return
    ticker = _Ticker()
    ticker.start()
    try:
        yield ticker.say
    finally:
        ticker.stop()


def _say_nothing(stage: str) -> None:
    del stage


class _Ticker(threading.Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._doing = "starting"
        self._told = ""
        self._since = time.monotonic()
        self._done = threading.Event()
        self._drawn = False

    def say(self, stage: str) -> None:
        self._doing = stage

    def run(self) -> None:
        is_terminal = sys.stderr.isatty()
        if self._done.wait(PATIENCE):
            return
        while True:
            seconds = time.monotonic() - self._since
            if is_terminal:
                sys.stderr.write(f"\r\x1b[K{self._doing} ({seconds:.0f} s)")
                sys.stderr.flush()
                self._drawn = True
            elif self._doing != self._told:
                self._told = self._doing
                sys.stderr.write(f"{self._doing} ({seconds:.0f} s)\n")
            if self._done.wait(0.2):
                return

    def stop(self) -> None:
        self._done.set()
        self.join()
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

"""Progress on stderr: silent for a second, then what is being done."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING

from normswap.progress import silent

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
        yield silent
        return
    with contextlib.ExitStack() as stack:
        shown = _Shown(stack)
        timer = threading.Timer(PATIENCE, shown.begin)
        timer.daemon = True
        timer.start()
        try:
            yield shown.say
        finally:
            timer.cancel()
            shown.end()


class _Shown:
    """What is shown after a while, so that quick commands don't wait for rich."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._stage = "starting"
        self._since = time.monotonic()
        self._show: Callable[[str], object] = silent
        self._lock = threading.Lock()
        self._is_over = False

    def say(self, stage: str) -> None:
        with self._lock:
            if stage != self._stage:
                self._stage = stage
                self._show(stage)

    def begin(self) -> None:
        from rich.console import Console

        with self._lock:
            if self._is_over:
                return
            if sys.stderr.isatty():
                status = Console(stderr=True).status(self._stage)
                self._show = self._stack.enter_context(status).update
            else:
                self._show = self._line
                self._show(self._stage)

    def end(self) -> None:
        with self._lock:
            self._is_over = True

    def _line(self, stage: str) -> None:
        sys.stderr.write(f"{stage} ({time.monotonic() - self._since:.0f} s)\n")

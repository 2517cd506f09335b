"""Progress on a terminal: silent for a second, then what is being done, and for how long."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING

from normswap.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 1.0  # seconds until a person wonders


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show the present stage of a command, if it lasts: a line that changes, and goes away.

    Where standard error is no terminal nobody watches it, and a log keeps what was found only.

    Yields
    ------
    callable
        To be told the stage.
    """
    if quiet or not sys.stderr.isatty():
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
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        with self._lock:
            if self._is_over:
                return
            # The console is what honours NO_COLOR, and a terminal that can't go back in a line.
            console = Console(stderr=True)
            unbroken = Column(no_wrap=True)
            stage = TextColumn("{task.description}", markup=False, table_column=unbroken)
            columns = SpinnerColumn(), stage, TimeElapsedColumn()
            line = Progress(*columns, console=console, transient=True)
            task = line.add_task(self._stage, total=None)
            self._stack.enter_context(line)
            self._show = lambda stage: line.update(task, description=stage)

    def end(self) -> None:
        with self._lock:
            self._is_over = True

"""A command in a process of its own, which can be ended whatever it is doing.

Python looks at signals between two steps of its own. A call into onnx, protobuf or NumPy may take
many seconds, and may keep every thread from running. So the process that was started only waits: it
hands on what asks for an end, and if the command has not put things in order after `GRACE`, it ends
the command and does that itself.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
from typing import TYPE_CHECKING

from normswap.cli.stopping import usual

if TYPE_CHECKING:
    from types import FrameType

GRACE = 0.3
"""Seconds that a command has to put things in order once it was asked to end."""

_ROOM = 1 << 16


class Note:
    """A few words that one process leaves for another, even if it is killed."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _ROOM)

    def write(self, text: str) -> None:
        """Leave these words in place of others, which stay if there is no room."""
        content = text.encode("utf-8", "surrogateescape") + b"\0"
        if len(content) <= _ROOM:
            self._memory[: len(content)] = content

    def read(self) -> str:
        """Return what was left."""
        return self._memory[:].partition(b"\0")[0].decode("utf-8", "surrogateescape")


def split() -> int:
    """Become two processes, one to do the work and one to wait for it.

    Nothing large may have been imported yet, and no other thread may run.

    Returns
    -------
    int
        In the process that waits the number of the other; in that one 0.
    """
    parent = os.getpid()
    child = os.fork()
    if not child:
        from normswap.runtime.lifetime import end_with

        end_with(parent)
    return child


def wait(child: int) -> tuple[int, int | None, int | None]:
    """Wait for the process that does the work; hand on signals that ask for an end.

    Returns
    -------
    code : int
        Its exit code; of no meaning if it was killed.
    killed : int or None
        The signal that killed it.
    asked : int or None
        The first one that asked for an end.
    """
    asked: list[int] = []

    def send(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    def kill(number: int, frame: FrameType | None) -> None:
        del number, frame
        # Its own children end with it, but not before all its memory is given back.
        for each in (*_children(child), child):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    def hand_on(number: int, frame: FrameType | None) -> None:
        del frame
        if not asked:
            signal.setitimer(signal.ITIMER_REAL, GRACE)
        asked.append(number)
        send(number)

    signal.signal(signal.SIGALRM, kill)
    for number in usual():
        signal.signal(number, hand_on)
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in asked:
        signal.signal(number, signal.SIG_IGN)  # things are put in order, and that is all
    first = asked[0] if asked else None
    if os.WIFSIGNALED(status):
        return 0, os.WTERMSIG(status), first
    return os.waitstatus_to_exitcode(status), None, first


def _children(parent: int) -> list[int]:
    """Return the children of a process, as far as the system tells."""
    from pathlib import Path

    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{parent}/task").glob("*/children")
        return [int(number) for task in tasks for number in task.read_text().split()]
    return []

"""An end that somebody asks for: Ctrl-C, SIGTERM, a terminal that is closed."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Those that ask a program to end and let it put things in order; a system knows some of them."""

STOPPED = 128
"""What shells add to the number of the signal that ended a program, to get its exit code."""


class Stop:
    """Whether an end was asked for, and by which signal.

    Attributes
    ----------
    number : int or None
        Of the first signal.
    is_over : bool
        Whether all is in order already, so that a further signal changes nothing.

    Parameters
    ----------
    once : bool
        Whether a further signal changes nothing at any time. A terminal gives its Ctrl-C to all
        processes, and they hand it on; nobody is kept, where a supervisor waits for the end.
    """

    def __init__(self, *, once: bool = False) -> None:
        self.number: int | None = None
        self.is_over = False
        self._once = once

    @property
    def exit_code(self) -> int:
        """How the program ends then."""
        return STOPPED + (self.number or signal.SIGINT)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal, as Python does with Ctrl-C."""
        if self.is_over or (self._once and self.number is not None):
            return
        if self.number is None:
            self.number = number
        if self._once and _imports(frame):
            # NumPy makes of it an ImportError, with words of its own. The supervisor won't wait.
            return
        raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def usual() -> list[int]:
    """Return the signals that ask for an end and that nobody here ignores or handles yet."""
    numbers = [getattr(signal, name, None) for name in SIGNALS]
    handlers = (signal.SIG_DFL, signal.default_int_handler)
    return [n for n in numbers if n is not None and signal.getsignal(n) in handlers]


@contextlib.contextmanager
def stoppable(*, once: bool = False) -> Iterator[Stop]:
    """Make every signal that asks for an end a KeyboardInterrupt, as long as the context lasts.

    A signal that is ignored (``nohup``, a job in the background) stays so, and one that the program
    around us handles stays its own.

    Parameters
    ----------
    once : bool
        See :class:`Stop`.
    """
    stop = Stop(once=once)
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in usual():
                stack.callback(signal.signal, number, signal.signal(number, stop))
        yield stop

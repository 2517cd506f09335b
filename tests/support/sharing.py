"""Processes of the runtime that one test leaves to the next.

A command starts its own, and what such a process imports takes longer than what a test asks of it.
It does one task after another anyway, of one command or of several, and here it goes on doing so.
Where the process itself is what is tested, a test has the fixture ``own_processes``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from unittest import mock

from normswap.runtime import child
from normswap.runtime.child import Child
from normswap.runtime.session import Session

PATIENT = 20.0
"""A test that gives a task fewer seconds is about the time that it takes."""

_start, _close, _command = Child.__init__, Child.close, child.command


class Pool:
    """Idle processes, all started where the tests are and with their environment."""

    def __init__(self) -> None:
        self._idle = []
        self._place = _place()
        self.is_open = True

    def start(self, asked, label, *, timeout, **how) -> None:
        """Do what `Child` does when it is made, with a process that is there."""
        if not (self.is_open and timeout >= PATIENT and self._fits(asked, how)):
            _start(asked, label, timeout=timeout, **how)
            return
        if not self._idle:
            _start(asked, label, timeout=timeout)
        else:
            before = self._idle.pop()
            asked._process, asked._stderr = before._process, before._stderr
            asked._stage, asked.is_well = "starting", True
            asked.lend(label, timeout)
        asked.is_shared = True

    def _fits(self, asked, how) -> bool:
        return (
            type(asked) in {Child, Session}
            and not any(value for name, value in how.items() if name != "warm")
            and child.command is _command  # or it is a process of the test's own making
            and threading.current_thread() is threading.main_thread()  # with which it would end
            and _place() == self._place
        )

    def close(self, given) -> None:
        """Do what `Child.close` does, but for a process that the next one may have."""
        if getattr(given, "was_given_back", False):
            return  # it is another's by now
        is_well = given.is_well and given._process.poll() is None and sys.exc_info()[0] is None
        if self.is_open and is_well and getattr(given, "is_shared", False):
            given.was_given_back = True
            self._idle.append(given)
        else:
            _close(given)

    def empty(self) -> None:
        """End all of them."""
        while self._idle:
            _close(self._idle.pop())


def _place():
    here = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return os.getcwd(), here  # noqa: PTH109 - it is compared


def machine():
    """Return what an environment that is written anew has of this one all the same.

    Where compiled modules lie, and how many threads a process takes beside others.
    """
    names = ("PYTHONPYCACHEPREFIX", "OPENBLAS_NUM_THREADS")
    return {name: os.environ[name] for name in names if name in os.environ}


@contextlib.contextmanager
def shared_processes():
    """Have processes come back, for as long as the context lasts."""
    pool = Pool()

    def start(self, *args, **how):
        pool.start(self, *args, **how)

    def close(self):
        pool.close(self)

    with mock.patch.object(Child, "__init__", start), mock.patch.object(Child, "close", close):
        try:
            yield pool
        finally:
            pool.empty()

"""A function in a child process, so that nothing it does can end the benchmark."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from types import TracebackType

SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call.

    Attributes
    ----------
    ok : bool
    value : object
        What the function returned.
    message : str
        Why it did not: the exception, how the process died, or that it took too long.
    """

    ok: bool
    value: Any = None
    message: str = ""


class Worker:
    """Calls a function in one child process after another.

    The process lives on from call to call, and is replaced when it dies or takes too long.

    Parameters
    ----------
    function : callable
        Of a module, with arguments and result that can be pickled.
    timeout : float
        Seconds that a call may take.
    """

    def __init__(self, function: Callable[..., Any], *, timeout: float = 120) -> None:
        self._function = function
        self._timeout = timeout
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Worker:  # noqa: PYI034 - Self came with 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def __call__(self, *arguments: Any) -> Outcome:
        """Return what the function made of `arguments`."""
        if self._process is None or self._pipe is None:
            self._pipe, theirs = SPAWN.Pipe()
            self._process = SPAWN.Process(target=_serve, args=(theirs, self._function), daemon=True)
            self._process.start()
            theirs.close()
        self._pipe.send(arguments)
        try:
            if not self._pipe.poll(self._timeout):
                self._stop()
                return Outcome(ok=False, message=f"took longer than {self._timeout:.0f} s")
            return self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self._stop()
            return Outcome(ok=False, message=f"died with exit code {code}")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def _serve(pipe: Connection, function: Callable[..., Any]) -> None:
    """Answer calls until the other side goes; what the tools print is nobody's business."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        try:
            outcome = Outcome(ok=True, value=function(*arguments))
        except BaseException as error:  # noqa: BLE001 - SystemExit and Rust panics too
            lines = traceback.format_exception_only(error)
            outcome = Outcome(ok=False, message=lines[-1].strip())
        pipe.send(outcome)

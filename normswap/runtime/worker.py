"""The child process: does one task after the other, for as long as it is asked to.

``python -m normswap.runtime.worker [LIMIT] [warm]``, where LIMIT is the most bytes of address
space and ``warm`` has the runtime imported before it is needed, reads
requests from standard input (`normswap.runtime.messages`) and answers each on standard output. A
request names its ``task`` as ``module:function``. Before its answer, the function may tell what it
is doing, so that the parent knows what the process died of, and send values.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from normswap.runtime.diagnosis import import_runtime
from normswap.runtime.failures import WorkerError
from normswap.runtime.messages import WARM, receive, send

if TYPE_CHECKING:
    from io import BufferedIOBase


class Channel:
    """What a task has besides its request.

    Parameters
    ----------
    target : BufferedIOBase
        Where messages to the parent go.
    held : dict of str to object
        What tasks of this process leave to those after them.
    """

    def __init__(self, target: BufferedIOBase, held: dict[str, Any]) -> None:
        self._target = target
        self._sent = 0
        self.held = held

    def stage(self, text: str) -> None:
        """Say what is done from now on, for the case that it is the last thing done."""
        send(self._target, {"stage": text})

    def send(self, value: Any) -> int:
        """Send a value ahead of the answer, so that it takes no memory here.

        Returns
        -------
        int
            Its place in what has been sent, by which the answer may speak of it.
        """
        send(self._target, {"value": value})
        self._sent += 1
        return self._sent - 1


Task = Callable[[dict[str, Any], Channel], dict[str, Any]]


def serve(source: BufferedIOBase, target: BufferedIOBase) -> None:
    """Answer requests until the other side is gone."""
    held: dict[str, Any] = {}
    while True:
        try:
            request = receive(source)
        except EOFError:
            return
        try:
            answer = _task(request["task"])(request, Channel(target, held))
        except WorkerError as error:
            answer = {"error": error.to_dict()}
        except MemoryError as error:
            answer = {"error": WorkerError("memory", str(error)).to_dict()}
        send(target, {"answer": {**answer, "peak_memory": _peak_memory()}})


def _task(place: str) -> Task:
    """Return the task at ``module:function``."""
    module, function = place.split(":")
    if module.startswith("normswap.runtime."):
        import_runtime()  # so that a missing or broken one is told in words
    task: Task = getattr(importlib.import_module(module), function)
    return task


def _peak_memory() -> int | None:
    """Return the most bytes this process has held in memory, or None where nobody counts.

    Linux's getrusage would count what the parent held when it forked; /proc does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _limit_memory(limit: int) -> None:
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Serve on standard input and output, which nothing else may write to."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    given = sys.argv[1:]
    for limit in given:
        if limit != WARM:
            _limit_memory(int(limit))
    if WARM in given:
        with contextlib.suppress(WorkerError, ImportError):  # told when it is asked for
            _task("normswap.runtime.ort:execute")
    serve(cast("BufferedIOBase", sys.stdin.buffer), channel)
    # Somebody waits for the end, and a runtime takes its time to be taken apart.
    os._exit(0)


if __name__ == "__main__":
    main()

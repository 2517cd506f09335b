"""The parent's side of a child process: start it, ask it, tell how it ended.

A runtime that dies takes only its process with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from normswap.errors import RunError, RunTimeoutError
from normswap.runtime import providers
from normswap.runtime.failures import failure
from normswap.runtime.lifetime import command
from normswap.runtime.messages import WARM, receive, send

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from io import BufferedIOBase
    from types import TracebackType

_PACKAGE_HOME = Path(__file__).resolve().parents[2]
_OFTEN_MEMORY = {-9: "SIGKILL, which usually means that the system ran out of memory"}
_GRACE = 5.0  # seconds that a process has to end by itself
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def threads_of(count: int) -> dict[str, str]:
    """Return the variables that give NumPy so many threads, but for those that a person set."""
    return {name: str(count) for name in _THREADS if name not in os.environ}


class Child:
    """A process that does tasks (`normswap.runtime.worker`).

    Parameters
    ----------
    label : str
        What to call the model in messages, for example ``the original model (a.onnx)``.
    timeout : float
        Seconds that a task may take; the first one with the start of the process.
    memory_limit : int, optional
        Bytes of address space.
    provider_options : Mapping of str to object, optional
        Of the execution provider, some of which are told by the environment.
    warm : bool
        Whether the runtime is imported at once, and not when it is first needed.
    environment : Mapping of str to str, optional
        Variables besides those of this process.

    Attributes
    ----------
    label : str
    is_well : bool
        Whether it lives, as far as is known.
    """

    def __init__(
        self,
        label: str,
        *,
        timeout: float,
        memory_limit: int | None = None,
        provider_options: Mapping[str, Any] | None = None,
        warm: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.label = label
        self.is_well = True
        self._timeout = timeout
        self._stage = "starting"
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with the child
        path = os.pathsep.join(filter(None, [str(_PACKAGE_HOME), os.environ.get("PYTHONPATH")]))
        limits = [] if memory_limit is None else [str(memory_limit)]
        limits += [WARM] if warm else []
        self._process = subprocess.Popen(
            command("normswap.runtime.worker", *limits),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={
                # Or it leaves a file in the temporary folder, and tells others what is run.
                "ORT_DISABLE_TELEMETRY": "1",
                **os.environ,
                **(environment or {}),
                **providers.environment(provider_options or {}),
                "PYTHONPATH": path,
            },
        )

    def lend(self, label: str, timeout: float) -> None:
        """Take the process for another model."""
        self.label = label
        self._timeout = timeout

    def call(self, task: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Have a task done.

        Parameters
        ----------
        task : str
            ``module:function``.
        request : Mapping
            What the function is given; may hold arrays (`normswap.runtime.messages`).

        Returns
        -------
        dict
            The answer, with ``sent``, the values that were sent ahead of it, and ``peak_memory``.

        Raises
        ------
        RunError
            The child died, or the runtime could not load or run the model.
        RunTimeoutError
            The child took too long and was ended.
        ModelError
            The runtime says that the model is invalid.
        """
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(self._timeout, stop)
        timer.start()
        try:
            answer = self._ask({**request, "task": task})
        except EOFError:
            self.is_well = False
            code = self._process.wait()
            raise self._timed_out() if late.is_set() else self._death(code) from None
        except BaseException:
            self.is_well = False
            self._process.kill()  # nobody wants the answer any more, and it would be in the way
            raise
        finally:
            timer.cancel()
        if "error" in answer:
            raise failure(answer["error"], self.label)
        return answer

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            send(cast("BufferedIOBase", self._process.stdin), request)
        return receive_answer(cast("BufferedIOBase", self._process.stdout), self._now)

    def _now(self, stage: str) -> None:
        self._stage = stage

    def _timed_out(self) -> RunError:
        return RunTimeoutError(
            f"{self.label} took longer than {self._timeout:g} s, and was stopped while "
            f"{self._stage}.",
            tip="Raise the limit with --timeout, or use smaller inputs (--input-shape).",
        )

    def tip(self, code: int) -> str:
        """Return what to do where a signal has ended the process, with this exit code."""
        if code in _OFTEN_MEMORY:
            return "Use smaller inputs (--input-shape), or smaller batches of data."
        return "onnxruntime crashed, not normswap; another version of onnxruntime may work."

    def _death(self, code: int) -> Exception:
        if code < 0:
            how = _OFTEN_MEMORY.get(code)
            if how is None:
                try:
                    how = signal.Signals(-code).name
                except ValueError:
                    how = f"signal {-code}"
            return RunError(
                f"{self.label} crashed its process ({how}) while {self._stage}.",
                tip=self.tip(code),
            )
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()
        last = said.splitlines()[-1] if said else f"exit code {code}"
        if "MemoryError" in last:
            return failure({"kind": "memory", "message": last}, self.label)
        return RunError(
            f"{self.label} could not be run: the process ended while {self._stage}: {last}"
        )

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        self.is_well = False
        self._process.kill()

    def close(self) -> None:
        """End the process: it stops by itself when nobody asks any more, and is made to if not."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                cast("BufferedIOBase", stream).close()
        try:
            self._process.wait(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    def __enter__(self) -> Child:  # noqa: PYI034 - typing.Self is there from Python 3.11 on
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def receive_answer(stream: BufferedIOBase, tell: Callable[[str], object]) -> dict[str, Any]:
    """Read the answer to a request, and what comes before it.

    Parameters
    ----------
    stream : BufferedIOBase
    tell : callable
        Takes what the child says it is doing.

    Returns
    -------
    dict
        As of `Child.call`; or with ``error``, as of `failure`.

    Raises
    ------
    EOFError
        The child is gone.
    """
    sent: list[Any] = []
    while True:
        message = receive(stream)
        if "answer" in message:
            return {**message["answer"], "sent": sent}
        if "stage" in message:
            tell(message["stage"])
        else:
            sent.append(message["value"])


def run_task(
    task: str,
    request: Mapping[str, Any],
    *,
    label: str,
    timeout: float,
    memory_limit: int | None = None,
) -> dict[str, Any]:
    """Do one task in a child process of its own, which is then gone with all its memory.

    Parameters
    ----------
    task, request
        As of `Child.call`.
    label, timeout, memory_limit
        As of `Child`, to which ``provider_options`` of the request are told.

    Returns
    -------
    dict
        As of `Child.call`, with ``wall_seconds`` added.
    """
    began = time.perf_counter()
    with Child(
        label,
        timeout=timeout,
        memory_limit=memory_limit,
        provider_options=request.get("provider_options"),
    ) as child:
        answer = child.call(task, request)
    return {**answer, "wall_seconds": time.perf_counter() - began}

"""A model in a process of its own, that is loaded once and run many times.

The check runs each model once, in a process that is gone afterwards; calibration and drift need
many runs of a few tensors each. A runtime that dies takes only its process with it.
"""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from normswap.errors import RunError, RunTimeoutError
from normswap.runtime import providers
from normswap.runtime.frames import Arrays, receive, send
from normswap.runtime.lifetime import command
from normswap.runtime.runner import failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

_HOME = Path(__file__).resolve().parents[2]
NAMED = 8
FAREWELL = 5.0  # seconds that a process has to end by itself
"""Nodes that did not run where they should, in a sentence."""


class Session:
    """A loaded model.

    Parameters
    ----------
    model : Path
    label : str
        What to call it in messages.
    taps : Mapping[str, int]
        Tensors that may be asked for besides the outputs, and their ``TensorProto.DataType``.
    provider : str
    provider_options : Mapping[str, Any]
        Options handed to it.
    level : str
        ``"default"``, or ``"disabled"`` for no optimizations.
    alike : bool
        Whether random operators draw the same numbers in every run, and in every model that
        has them, which is what two models are compared with.
    threads : int
        0 for as many as there are cores.
    timeout : float
        Seconds that loading, or one run, may take.

    Raises
    ------
    RunError
        If the runtime can't load or run the model, or died of it.
    RunTimeoutError
        If it took too long.
    """

    def __init__(
        self,
        model: Path,
        *,
        label: str,
        taps: Mapping[str, int] | None = None,
        provider: str = "cpu",
        provider_options: Mapping[str, Any] | None = None,
        level: str = "default",
        alike: bool = False,
        threads: int = 0,
        timeout: float = 600.0,
    ) -> None:
        self.label = label
        self.provider = ""
        self._remarks: list[str] = []
        self._elsewhere: list[str] = []
        options = dict(provider_options or {})
        self._timeout = timeout
        path = os.pathsep.join(filter(None, [str(_HOME), os.environ.get("PYTHONPATH")]))
        self._child = subprocess.Popen(
            command("normswap.runtime.server"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **providers.environment(options), "PYTHONPATH": path},
        )
        try:
            self._call(
                {
                    "model": str(Path(model).resolve()),
                    "taps": dict(taps or {}),
                    "provider": provider,
                    "provider_options": options,
                    "level": level,
                    "alike": alike,
                    "threads": threads,
                }
            )
        except BaseException:
            self.close()
            raise

    def run(self, feeds: Mapping[str, Any], outputs: Sequence[str] = ()) -> Arrays:
        """Compute tensors of the model, and nothing that they don't need.

        Parameters
        ----------
        feeds : mapping of str to ndarray
            Inputs; or any tensors in the middle of the network, which are then not computed.
        outputs : sequence of str
            Outputs and taps; all outputs if left out.
        """
        return self._call({"outputs": list(outputs)}, dict(feeds))

    def _call(self, request: dict[str, Any], arrays: Arrays | None = None) -> Arrays:
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._child.kill()

        timer = threading.Timer(self._timeout, stop)
        timer.start()
        try:
            send(cast("BinaryIO", self._child.stdin), request, arrays)
            message, results = receive(cast("BinaryIO", self._child.stdout))
        except (EOFError, BrokenPipeError) as error:
            if late.is_set():
                raise RunTimeoutError(
                    f"{self.label} took longer than {self._timeout:g} s.",
                    tip="Raise the limit with --timeout.",
                ) from error
            raise RunError(
                f"{self.label} killed the process it ran in (exit code {self._child.wait()}).",
                tip="It is the runtime that died; another onnxruntime version may live.",
            ) from error
        except BaseException:
            self._child.kill()  # nobody wants the answer any more, and it can't be told from others
            raise
        finally:
            timer.cancel()
        if "error" in message:
            raise failure(message["error"], self.label)
        self.provider = message["provider"]
        self._elsewhere = message["elsewhere"]
        self._remarks += message.get("remarks", [])
        return results

    @property
    def notes(self) -> list[str]:
        """What a person should know of where the model was run; nothing of the CPU."""
        notes = list(self._remarks)
        if self._elsewhere:
            named = ", ".join(self._elsewhere[:NAMED])
            more = f" and {len(self._elsewhere) - NAMED} more" * (len(self._elsewhere) > NAMED)
            notes.append(
                f"{len(self._elsewhere)} nodes of {self.label} did not run in {self.provider}: "
                f"{named}{more}"
            )
        return notes

    def close(self) -> None:
        """End the process: it stops by itself when nobody asks any more, and is made to if not."""
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        try:
            self._child.wait(timeout=FAREWELL)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> Session:  # noqa: PYI034 - typing.Self is there from Python 3.11 on
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

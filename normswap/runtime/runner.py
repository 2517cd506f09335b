"""The parent's side of the child process: start it, wait for it, tell how it ended."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normswap.errors import ModelError, NormswapError, RunError, RunTimeoutError
from normswap.runtime import providers
from normswap.runtime.lifetime import command

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE_HOME = Path(__file__).resolve().parents[2]
_FILE = re.compile(r"Load model from .*? failed: ?")
"""What onnxruntime calls a model: a path that may be temporary, where a sentence has its label."""

_OFTEN_MEMORY = {-9: "SIGKILL, which is how a system ends what takes too much memory"}


class UnsupportedByRuntimeError(RunError):
    """The runtime has no kernel for an operator, or no Python for a type, of the model."""


class ProviderError(RunError):
    """The execution provider, or onnxruntime itself, can't be used here."""


class ArbiterError(RunError):
    """The float64 arbiter cannot evaluate the model."""


def run_worker(
    request: Mapping[str, Any],
    folder: Path,
    *,
    label: str,
    timeout: float,
    memory_limit: int | None,
) -> dict[str, Any]:
    """Do one task in a child process.

    Parameters
    ----------
    request : Mapping
        The task (`normswap.runtime.worker`); JSON-serialisable.
    folder : Path
        A folder of this task alone, in which the arrays of the request lie.
    label : str
        What to call the model in messages, for example ``the original (a.onnx)``.
    timeout : float
        Seconds.
    memory_limit : int or None
        Bytes of address space.

    Returns
    -------
    dict
        The response, with ``wall_seconds`` added.

    Raises
    ------
    RunError
        The child died, or the runtime could not load or run the model.
    RunTimeoutError
        The child took too long and was ended.
    ModelError
        The runtime says that the model is invalid.
    """
    (folder / "request.json").write_text(
        json.dumps({**request, "memory_limit": memory_limit}), encoding="utf-8"
    )
    path = os.pathsep.join(filter(None, [str(_PACKAGE_HOME), os.environ.get("PYTHONPATH")]))
    options = request.get("provider_options", {})
    environment = {**os.environ, **providers.environment(options), "PYTHONPATH": path}
    began = time.perf_counter()
    # The folder is the working directory too, so that a user's ``numpy.py`` cannot be imported.
    with (
        (folder / "stderr").open("wb") as stderr,
        subprocess.Popen(
            command("normswap.runtime.worker", str(folder)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=folder,
            env=environment,
        ) as child,
    ):
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            raise RunTimeoutError(
                f"{label} took longer than {timeout:g} s; it was stopped while {_stage(folder)}.",
                tip="Raise the limit with --timeout, or make the inputs smaller "
                "with --input-shape.",
            ) from None
        except BaseException:
            child.kill()  # the user has had enough, and the child must not outlive us
            raise
    response_path = folder / "response.json"
    if code != 0 or not response_path.exists():
        raise _death(code, label, folder)
    response: dict[str, Any] = json.loads(response_path.read_text(encoding="utf-8"))
    if "error" in response:
        raise failure(response["error"], label)
    response["wall_seconds"] = time.perf_counter() - began
    return response


def _stage(folder: Path) -> str:
    path = folder / "stage"
    return path.read_text(encoding="utf-8") if path.exists() else "starting"


def _death(code: int, label: str, folder: Path) -> RunError:
    if code < 0:
        how = _OFTEN_MEMORY.get(code)
        if how is None:
            try:
                how = signal.Signals(-code).name
            except ValueError:
                how = f"signal {-code}"
        return RunError(
            f"{label} killed the process it ran in ({how}) while {_stage(folder)}.",
            tip="It is the runtime that died, not this tool; another onnxruntime version may live.",
        )
    said = (folder / "stderr").read_text(encoding="utf-8", errors="replace").strip()
    last = said.splitlines()[-1] if said else f"exit code {code}"
    if "MemoryError" in last:
        return _out_of_memory(label, last)
    return RunError(f"{label} could not be run; the process ended while {_stage(folder)}: {last}")


def _out_of_memory(label: str, message: str) -> RunError:
    detail = f": {message}" if message else "."
    return RunError(
        f"{label} ran out of memory{detail}",
        tip="Make the inputs smaller with --input-shape, or raise the limit that was set.",
    )


def failure(error: Mapping[str, str | None], label: str) -> NormswapError:
    """Return what a child tells (`WorkerError.to_dict`) as an error for a person.

    Parameters
    ----------
    error : Mapping of str to str or None
    label : str
        What to call the model.
    """
    kind = error["kind"]
    message = _FILE.sub("", error["message"] or "")
    if kind == "provider":
        return ProviderError(message, tip=error["tip"])
    if kind == "memory":
        return _out_of_memory(label, message)
    if kind == "invalid":
        return ModelError(f"onnxruntime says that {label} is invalid: {message}")
    if kind == "unsupported":
        return UnsupportedByRuntimeError(
            f"onnxruntime has no kernel for an operator of {label}: {message}"
        )
    if kind == "type":
        return UnsupportedByRuntimeError(
            f"onnxruntime hands Python no values of a type that {label} takes or gives: {message}"
        )
    if kind == "arbiter":
        return ArbiterError(f"The float64 arbiter cannot evaluate {label}: {message}")
    return RunError(f"onnxruntime could not run {label}: {message}")

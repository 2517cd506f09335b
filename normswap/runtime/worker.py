"""The child process: does one task on one model, then is gone with all its memory.

``python -m normswap.runtime.worker FOLDER`` reads ``FOLDER/request.json``, keeps ``FOLDER/stage``
up to date so that its parent can tell what it died of, and writes ``FOLDER/response.json``.
Arrays are files in the same folder (`normswap.runtime.arrays`).
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from normswap.runtime.diagnosis import import_runtime
from normswap.runtime.protocol import Stage, WorkerError

Task = Callable[[dict[str, Any], Path, Stage], dict[str, Any]]


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


def _limit_memory(limit: int | None) -> None:
    if limit is None:
        return
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(folder: Path) -> None:
    """Do what ``folder/request.json`` asks for."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    stage = Stage(folder)
    try:
        stage("starting")
        _limit_memory(request["memory_limit"])
        response = _task(request["task"])(request, folder, stage)
    except WorkerError as error:
        response = {"error": error.to_dict()}
    except MemoryError as error:
        response = {"error": WorkerError("memory", str(error)).to_dict()}
    response["peak_memory"] = _peak_memory()
    (folder / "response.json").write_text(json.dumps(response), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

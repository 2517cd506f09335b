"""Child processes that end with their parent, however that ends.

What `command` returns is ``python -m MODULE ARGUMENT...`` for as long as the process lives that
called it. It takes effect before anything is imported that takes long.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_SYNCHRONIZE = 0x00100000
_INFINITE = 0xFFFFFFFF
_INTERVAL = 0.25  # seconds
_ORPHANED = 1
# Of the working directory nothing is imported: a user's ``numpy.py`` is none of ours.
_START = (
    "import sys; sys.path[:] = filter(None, sys.path)\n"
    "from normswap.runtime.lifetime import main; main()"
)


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line of a child of this process that runs a module."""
    return [sys.executable, "-c", _START, str(os.getpid()), module, *arguments]


def end_with(parent: int) -> None:
    """End this process soon after its parent has ended.

    The kernel of Linux does it at once, also in the middle of a long call that Python can't
    interrupt. Besides, and elsewhere, a thread watches the parent.

    Parameters
    ----------
    parent : int
        The process that started this one.
    """
    if sys.platform == "linux":
        # It is sent when the thread that made this process ends, which waits for our answers.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32")
        kernel.OpenProcess.restype = ctypes.c_void_p
        process = ctypes.c_void_p(kernel.OpenProcess(_SYNCHRONIZE, False, parent))
        kernel.WaitForSingleObject(process, _INFINITE)
    else:
        while os.getppid() == parent:
            time.sleep(_INTERVAL)
    os._exit(_ORPHANED)


def main() -> None:
    """Do what the command line says."""
    _, parent, module, *arguments = sys.argv
    end_with(int(parent))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)

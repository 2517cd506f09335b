"""Temporary folders, which don't outlive their process for long, however that ends."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from normswap.files.locks import hold, is_at, is_dead
from normswap.files.undisturbed import finish

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"normswap-([a-z]+-)?[0-9a-f]{16}")
_LOCK = ".normswap.lock"
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)


@contextlib.contextmanager
def scratch_folder(purpose: str = "") -> Iterator[Path]:
    """Make a temporary folder, for as long as the context lasts.

    A file in it is locked, so that :func:`sweep_scratch` of another process leaves it alone.

    Parameters
    ----------
    purpose : str
        Small letters, for the name of the folder.

    Yields
    ------
    pathlib.Path
    """
    sweep_scratch()
    name = "-".join(filter(None, ["normswap", purpose, os.urandom(8).hex()]))
    path = Path(tempfile.gettempdir(), name)
    held: list[int] = []
    try:
        _make(path, held)
        yield path
    finally:
        finish(lambda: _remove(path, held))


def _make(path: Path, held: list[int]) -> None:
    """Make a folder, and hold its lock until it is removed."""
    while True:
        path.mkdir(mode=0o700)
        try:
            held.append(os.open(path / _LOCK, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600))
        except FileNotFoundError:
            continue  # it was taken for a dead process's before it had a lock
        hold(held[-1])
        if is_at(held[-1], path / _LOCK):
            return
        os.close(held.pop())


def _remove(path: Path, held: list[int]) -> None:
    while held:
        os.close(held.pop())
    _clear(path)


def _clear(path: Path) -> None:
    """Remove a folder, its lock last: what is left of one without it is nobody's to remove."""
    with contextlib.suppress(OSError):
        for name in os.listdir(path):  # noqa: PTH208 - no paths are made of them
            if name == _LOCK:
                continue
            if (path / name).is_dir() and not (path / name).is_symlink():
                shutil.rmtree(path / name)
            else:
                (path / name).unlink()
        (path / _LOCK).unlink(missing_ok=True)
        path.rmdir()


def sweep_scratch() -> None:
    """Remove the temporary folders of processes that have ended before they did."""
    with contextlib.suppress(OSError):  # what can't be looked at or removed is only in the way
        folder = Path(tempfile.gettempdir())
        for name in os.listdir(folder):  # noqa: PTH208 - names, of maybe many files
            if _NAME.fullmatch(name):
                _reap(folder / name)


def _reap(path: Path) -> None:
    with contextlib.suppress(OSError):
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            return
        if sys.platform != "win32" and status.st_uid != os.getuid():
            return
        try:
            descriptor = os.open(path / _LOCK, _FLAGS)
        except FileNotFoundError:
            path.rmdir()  # which fails if there is anything in it: then it is none of ours
            return
        try:
            dead = is_dead(descriptor)
            if dead:
                _clear(path)
        finally:
            os.close(descriptor)
        if dead and sys.platform == "win32":  # what is open can't be removed
            _clear(path)

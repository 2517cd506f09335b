"""Locks on files that end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import os
import sys

_TAKEN = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK}

if sys.platform == "win32":
    import msvcrt

    # A lock keeps others from the bytes that it covers: this one is behind the end of the file.
    _BEHIND = 1 << 30

    def _lock(descriptor: int, *, wait: bool) -> None:
        os.lseek(descriptor, _BEHIND, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int, *, wait: bool) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def hold(descriptor: int) -> None:
    """Lock a file that this process has made, until it is closed.

    On a file system without locks it is not locked, and :func:`is_dead` says so of no file there.
    """
    try:
        _lock(descriptor, wait=True)
    except OSError as error:
        if error.errno in _TAKEN:
            raise


def is_dead(descriptor: int) -> bool:
    """Lock the file of another process if it has ended, and return whether it has."""
    try:
        _lock(descriptor, wait=False)
    except OSError:
        return False  # it lives, or nobody can tell
    return True


def is_at(descriptor: int, path: str | os.PathLike[str]) -> bool:
    """Return whether an open file still is the one at a path."""
    try:
        found = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - what links point to is no file of ours
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))

"""What a command has written when it is broken off, as the files themselves show it.

What is imported here is imported for ``--help`` too: pathlib takes longer than all of this.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

if TYPE_CHECKING:
    State = tuple[int, int, int] | None


class Written:
    """What a command may write, and what it has written.

    It is in the object of click's context, where :func:`will_write` finds it.
    """

    def __init__(self) -> None:
        self._before: dict[str, State] = {}
        self._stream: _Noticed | None = None

    def expect(self, path: str) -> None:
        """Remember what is at a path now."""
        self._before[path] = _state(path)

    def notice(self, stream: BinaryIO) -> BinaryIO:
        """Return a stream of which it is known whether something has gone into it."""
        self._stream = _Noticed(stream)
        return cast("BinaryIO", self._stream)

    @property
    def takes_stdout(self) -> bool:
        """Whether a model goes to standard output."""
        return self._stream is not None

    def __str__(self) -> str:
        """Say what was written, as the end of a sentence."""
        if self._stream is not None and self._stream.has_begun:
            return f"{'all' if self._stream.is_done else 'only a part'} of the model was written"
        paths = [path for path, before in self._before.items() if _state(path) != before]
        if not paths:
            return "nothing was written"
        return f"{' and '.join(paths)} {'were' if paths[1:] else 'was'} written"


class _Noticed:
    """A stream that a model is written to, and then flushed."""

    def __init__(self, stream: BinaryIO) -> None:
        self.has_begun = False
        self.is_done = False
        self._stream = stream

    def write(self, data: Any) -> int:
        self.has_begun = True
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()
        self.is_done = True


def will_write(path: str | os.PathLike[str]) -> None:
    """Say that the command that is running may write a file.

    Parameters
    ----------
    path : path
        Where; it is looked at now, and again if the command is broken off.
    """
    _of_command().expect(os.fspath(path))


def will_write_to(stream: BinaryIO) -> BinaryIO:
    """Say that the command that is running may write a model to a stream; use the one returned."""
    return _of_command().notice(stream)


def _of_command() -> Written:
    context = click.get_current_context(silent=True)
    found = context.find_object(dict) if context else None
    return cast("Written", found[Written]) if found else Written()


def _state(path: str) -> State:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size

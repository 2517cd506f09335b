"""What a command has written when it is broken off, as the files themselves show it.

What is imported here is imported for ``--help`` too: pathlib takes longer than all of this.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from normswap.cli.supervised import Note

    State = tuple[int, int, int] | None


class Written:
    """What a command may write, and what it has written.

    It is in the object of click's context, where :func:`will_write` finds it.

    Parameters
    ----------
    note : Note, optional
        Where a process that waits for this one finds it, too.
    """

    def __init__(self, note: Note | None = None) -> None:
        self._before: dict[str, State] = {}
        self._stream: _Noticed | None = None
        self._note = note
        self._done = ""

    @classmethod
    def of(cls, note: Note) -> Written:
        """Return what another process has noted."""
        import json

        found = cls()
        noted = json.loads(note.read() or '[[], null, ""]')
        found._before = {path: tuple(state) if state else None for path, state in noted[0]}
        if noted[1] is not None:
            found._stream = _Noticed(io.BytesIO(), found._tell)
            found._stream.has_begun, found._stream.is_done = noted[1]
        found._done = noted[2]
        return found

    def expect(self, path: str | os.PathLike[str]) -> None:
        """Remember what is at a path now."""
        name = os.fspath(path)
        self._before[name] = _state(name)
        self._tell()

    def forget(self, path: str | os.PathLike[str]) -> None:
        """Take what is at a path for done."""
        self._before.pop(os.fspath(path), None)

    def count(self, done: str) -> None:
        """Say how much is done, of a command that does much of one kind."""
        self._done = done
        self._tell()

    def notice(self, stream: BinaryIO) -> BinaryIO:
        """Return a stream of which it is known whether something has gone into it."""
        self._stream = _Noticed(stream, self._tell)
        self._tell()
        return cast("BinaryIO", self._stream)

    def _tell(self) -> None:
        if self._note is not None:
            import json

            stream = self._stream and (self._stream.has_begun, self._stream.is_done)
            self._note.write(json.dumps([list(self._before.items()), stream, self._done]))

    def clean_up(self) -> None:
        """Remove what a command that was killed has left, which else a later one does."""
        from pathlib import Path

        from normswap.files.scratch import sweep_scratch

        sweep_scratch()
        folders = {Path(path).parent for path in self._before}
        if any(folder.is_dir() and any(folder.glob(".*.data.lock")) for folder in folders):
            from normswap.model.claims import sweep  # which imports onnx

            for folder in folders:
                sweep(folder)

    @property
    def takes_stdout(self) -> bool:
        """Whether a model goes to standard output."""
        return self._stream is not None

    def __str__(self) -> str:
        """Say what was written, as the end of a sentence."""
        if self._done:
            return self._done
        if self._stream is not None and self._stream.has_begun:
            return f"{'all' if self._stream.is_done else 'only a part'} of the model was written"
        paths = [path for path, before in self._before.items() if _state(path) != before]
        if not paths:
            return "nothing was written"
        return f"{' and '.join(paths)} {'were' if paths[1:] else 'was'} written"


class _Noticed:
    """A stream that a model is written to, and then flushed."""

    def __init__(self, stream: BinaryIO, tell: Callable[[], None]) -> None:
        self.has_begun = False
        self.is_done = False
        self._stream = stream
        self._tell = tell

    def write(self, data: Any) -> int:
        if not self.has_begun:
            self.has_begun = True
            self._tell()
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()
        self.is_done = True
        self._tell()


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
    except (OSError, ValueError):  # the latter of a name with a NUL in it
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size

"""Where the bytes of a model lie: in files that may change under us, or in memory.

Files are opened for each read and not held open, so that nothing stands in the way of replacing
them (Windows refuses to replace an open file) and a model with a thousand data files does not
exhaust the file descriptors. Each time, the file is compared with what it was when the model was
loaded.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from normswap.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 1 << 20
_BLOCK = 1 << 14
# Below this, a system call to copy costs more than the copying.
_KERNEL_COPY_THRESHOLD = 1 << 16


class Storage(Protocol):
    """Bytes that can be read in part."""

    def read(self, offset: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return a fresh, writable array of `nbytes` bytes."""
        ...

    def copy(self, offset: int, nbytes: int, stream: BinaryIO) -> None:
        """Append `nbytes` bytes to a stream."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryStorage:
    """Bytes that came from a pipe or from the caller."""

    data: bytes

    def read(self, offset: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return a fresh, writable array of `nbytes` bytes."""
        return np.frombuffer(self.data, np.uint8, nbytes, offset).copy()

    def copy(self, offset: int, nbytes: int, stream: BinaryIO) -> None:
        """Append `nbytes` bytes to a stream."""
        stream.write(memoryview(self.data)[offset : offset + nbytes])


class FileStorage:
    """The bytes of a file, as it is now.

    Parameters
    ----------
    path : pathlib.Path
        An existing file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = _state(path.stat())

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return self._state[0]

    @contextlib.contextmanager
    def open(self) -> Iterator[Any]:
        """Open the file for reading, unbuffered.

        Raises
        ------
        ModelError
            It is gone, or not the file any more that it was.
        """
        try:
            stream = self.path.open("rb", buffering=0)
        except OSError as error:
            raise ModelError(f"{self.path} can no longer be read: {error.strerror}.") from error
        with stream:
            if _state(os.fstat(stream.fileno())) != self._state:
                raise ModelError(
                    f"{self.path} was changed by another program while it was being read.",
                    tip="Run the command again when no other program writes to the file.",
                )
            yield stream

    @contextlib.contextmanager
    def view(self) -> Iterator[FileView]:
        """Open the file to look at single bytes and slices of it."""
        with self.open() as stream:
            yield FileView(stream, self.nbytes)

    def read(self, offset: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return a fresh, writable array of `nbytes` bytes."""
        array = np.empty(nbytes, np.uint8)
        with self.open() as stream:
            stream.seek(offset)
            view: Any = memoryview(array.data)
            while view:
                count = stream.readinto(view)
                if not count:
                    raise ModelError(
                        f"{self.path} is shorter than its tensors: it is truncated, or "
                        "another program is writing to it."
                    )
                view = view[count:]
        return array

    def copy(self, offset: int, nbytes: int, stream: BinaryIO) -> None:
        """Append `nbytes` bytes to a stream, by the kernel where it can."""
        with self.open() as source:
            if nbytes >= _KERNEL_COPY_THRESHOLD and hasattr(os, "copy_file_range"):
                stream.flush()
                copied = _kernel_copy(source.fileno(), offset, nbytes, stream)
                offset += copied
                nbytes -= copied
            source.seek(offset)
            while nbytes:
                chunk = source.read(min(_CHUNK, nbytes))
                if not chunk:
                    raise ModelError(
                        f"{self.path} is shorter than its tensors: it is truncated, or "
                        "another program is writing to it."
                    )
                stream.write(chunk)
                nbytes -= len(chunk)


class FileView:
    """A file as a sequence of bytes of which one block is in memory.

    Memory-mapping would be shorter, but the kernel maps a file in large pieces: looking at the
    head of each tensor would bring all of the weights into the resident memory of the process.

    Parameters
    ----------
    stream : file
        Unbuffered.
    nbytes : int
        Its size.
    """

    def __init__(self, stream: Any, nbytes: int) -> None:
        self._stream = stream
        self._nbytes = nbytes
        self._block = b""
        self._start = 0

    def __len__(self) -> int:
        return self._nbytes

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            start, stop, _ = key.indices(self._nbytes)
            return self._read(start, max(stop - start, 0))
        index = key - self._start
        if not 0 <= index < len(self._block):
            self._block = self._read(key, min(_BLOCK, self._nbytes - key))
            self._start = key
            index = 0
        return self._block[index]

    def _read(self, offset: int, nbytes: int) -> bytes:
        index = offset - self._start
        if index >= 0 and index + nbytes <= len(self._block):
            return self._block[index : index + nbytes]
        self._stream.seek(offset)
        parts = []
        while nbytes > 0:
            part = self._stream.read(nbytes)
            if not part:
                raise OSError("it became shorter while it was read")
            parts.append(part)
            nbytes -= len(part)
        return b"".join(parts)


def _kernel_copy(source: int, offset: int, nbytes: int, stream: BinaryIO) -> int:
    """Return how many bytes the kernel copied; fewer than asked for where it can't."""
    copied = 0
    try:
        target = stream.fileno()
        while copied < nbytes:
            count = os.copy_file_range(source, target, nbytes - copied, offset + copied)
            if not count:
                break
            copied += count
    except OSError:
        # Another file system, a pipe, no such system call; a full disk is found again by the
        # ordinary write that follows.
        return copied
    return copied


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of bytes in a storage.

    Attributes
    ----------
    storage : Storage
    offset, nbytes : int
        In bytes.
    """

    storage: Storage
    offset: int
    nbytes: int

    def read(self) -> npt.NDArray[np.uint8]:
        """Return the bytes as a fresh, writable array."""
        return self.storage.read(self.offset, self.nbytes)

    def copy(self, stream: BinaryIO) -> None:
        """Append the bytes to a stream."""
        self.storage.copy(self.offset, self.nbytes, stream)

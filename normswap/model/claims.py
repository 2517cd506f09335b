"""Names that one save alone may use, and what becomes of its files, whichever way it ends.

A save of ``m.onnx`` *claims* the name of a data file, ``m.onnx.data`` or ``m.onnx.1.data`` and so
on, by making a file ``.m.onnx.data.lock``, which only one process can, and locks it for as long as
it lives. The files of the save are

``m.onnx.data``
    external data, under its final name: the model refers to it;
``.m.onnx.data.INODE.tmp``
    the model, until it replaces ``m.onnx``; its name says which file the data is (0 for none), so
    that no other file that comes to have the name is taken for it;
``.m.onnx.data.lock``
    empty, and from just before that moment on the old data files, which go with the old model.

Whoever cleans up, the save itself or a later one that finds the lock free, removes of these what no
model refers to, the claim last. So it can be broken off at any place, and done again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from normswap.files.locks import hold, is_at, is_dead
from normswap.files.undisturbed import finish
from normswap.model.loading import data_files

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

_LOCK = re.compile(r"\.(?P<data>.+\.data)\.lock")
_NUMBERED = re.compile(r"(\.\d+)?\.data$")
_IR_VERSION_TAG = 0x08
NO_DATA = 0
"""The inode of no file."""
# Windows would translate the ends of lines, and Linux would follow a link that lies in wait.
_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class Claim:
    """The right to the name of a data file.

    Parameters
    ----------
    data : pathlib.Path
        The data file.

    Attributes
    ----------
    data : pathlib.Path
    model : pathlib.Path or None
        The model before it is put in place; None before it has a name.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self.model: Path | None = None
        self._path = data.with_name(f".{data.name}.lock")
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Claim the name, and return whether it was free.

        Raises
        ------
        OSError
            No file can be made there.
        """
        if _exists(self.data) or not self._lock():
            return False
        if _exists(self.data):
            self.give_up()
            return False
        return True

    def _lock(self) -> bool:
        while True:
            try:
                self._descriptor = os.open(self._path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                return False
            hold(self._descriptor)
            # Another process may have taken the file for a dead one's before it was locked.
            if is_at(self._descriptor, self._path):
                return True
            self.abandon()

    def remove_old(self, inode: int) -> None:
        """Remove the data file of an earlier save, unless the name is another one's by now.

        Parameters
        ----------
        inode : int
            Of the file that is meant; a new file often gets the number of one that is gone.
        """
        reap(self._path)
        try:
            if self._lock() and has_inode(self.data, inode):
                self.data.unlink()
        finally:
            finish(self.give_up)

    def name_model(self, inode: int = NO_DATA) -> Path:
        """Return where the model may be written.

        Parameters
        ----------
        inode : int
            Of the data file, if there is one; it is empty until there is a file of this name.
        """
        self.model = self.data.with_name(f".{self.data.name}.{inode:x}.tmp")
        return self.model

    def note(self, old: Iterable[Path]) -> None:
        """Note data files that go once no model refers to them any more.

        Raises
        ------
        OSError
            It can't be written down.
        """
        noted = {path.name: path.lstat().st_ino for path in old}
        if noted and self._descriptor is not None:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, json.dumps(noted).encode())

    def give_up(self) -> None:
        """Release the name; the data file, if there is one, is not ours any more."""
        if self._descriptor is not None and is_at(self._descriptor, self._path):
            if sys.platform == "win32":
                self.abandon()  # what is open can't be removed
            self._path.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """End the claim and leave its files, for the next save to remove."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def settle(self, target: Path, data_inode: int | None, model_inode: int | None) -> None:
        """Remove what is of no more use after the save has ended, and the claim.

        Parameters
        ----------
        target : pathlib.Path
            Where the model should be.
        data_inode, model_inode : int or None
            Of the files that were made; None where that is not known.

        Raises
        ------
        OSError
            Something can't be looked at or removed; the claim stays, for the next save to try.
        """
        if self._descriptor is None:
            # Broken off while the claim was made: if it is there and nobody's, it was ours.
            reap(self._path)
            return
        made = has_inode(self.data, data_inode) if data_inode is not None else _is_empty(self.data)
        waits = self.model is not None and _exists(self.model)
        if waits and made:
            self.data.unlink()  # the only model that refers to it was never put in place
        elif not waits:
            made = made and not has_inode(target, model_inode)
            self._remove_unneeded(target, made=made)
        if self.model is not None:
            self.model.unlink(missing_ok=True)
        self.give_up()

    def reap(self, descriptor: int) -> None:
        """Do as :meth:`settle` for another process, if it has ended.

        Parameters
        ----------
        descriptor : int
            Of its lock; closed by :meth:`abandon`.

        Raises
        ------
        OSError
            Something can't be looked at or removed.
        """
        self._descriptor = descriptor
        if not (is_dead(descriptor) and is_at(descriptor, self._path)):
            return
        marks = re.compile(re.escape(f".{self.data.name}.") + r"(?P<inode>[0-9a-f]+)\.tmp")
        found = {
            self.data.with_name(name): int(match["inode"], 16)
            for name in os.listdir(self.data.parent)  # noqa: PTH208 - names, of maybe many files
            if (match := marks.fullmatch(name))
        }
        inodes = {inode for inode in found.values() if inode != NO_DATA}
        made = any(has_inode(self.data, inode) for inode in inodes) or (
            not found and _is_empty(self.data)
        )
        target = self.data.with_name(_NUMBERED.sub("", self.data.name))
        self._remove_unneeded(target, made=made, besides=found)
        for path in found:
            path.unlink(missing_ok=True)
        self.give_up()

    def _remove_unneeded(self, target: Path, *, made: bool, besides: Container[Path] = ()) -> None:
        """Remove the noted data files, and our own if it was `made`, that no model needs."""
        noted = self._noted()
        for path in _unneeded([*noted, *([self.data] if made else [])], target, besides):
            if path in noted and path.suffix == self.data.suffix:
                Claim(path).remove_old(noted[path])
            else:
                path.unlink(missing_ok=True)

    def _noted(self) -> dict[Path, int]:
        """Return the old data files that are noted and still are the same, with their inodes."""
        if self._descriptor is None:
            return {}
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        text = os.read(self._descriptor, os.fstat(self._descriptor).st_size)
        try:
            noted = json.loads(text) if text else {}
        except ValueError:
            return {}  # it died while it wrote, and has not replaced the old model
        paths = {self.data.with_name(name): inode for name, inode in noted.items()}
        return {path: inode for path, inode in paths.items() if has_inode(path, inode)}


def sweep(folder: Path) -> None:
    """Remove what saves into a folder have left whose process has ended before they did."""
    with contextlib.suppress(OSError):  # what can't be looked at or removed is only in the way
        for name in os.listdir(folder):  # noqa: PTH208 - names, of maybe many files
            if _LOCK.fullmatch(name):
                reap(folder / name)


def reap(path: Path) -> None:
    """Remove the files of one save, if its process has ended.

    Parameters
    ----------
    path : pathlib.Path
        Of its lock.
    """
    match = _LOCK.fullmatch(path.name)
    if match is None:
        return
    with contextlib.suppress(OSError):
        claim = Claim(path.with_name(match["data"]))
        try:
            claim.reap(os.open(path, _FLAGS))
        finally:
            claim.abandon()


def _unneeded(paths: Iterable[Path], target: Path, besides: Container[Path]) -> list[Path]:
    """Return those data files that neither the model at `target` nor any other beside it needs.

    A copy of a model may have any name, so that every file is asked, but those `besides`.

    Raises
    ------
    OSError
        A file can't be read, so that nobody knows.
    """
    doomed = {_real(path): path for path in paths}
    if not doomed:
        return []
    with os.scandir(target.parent) as entries:
        others = [Path(entry.path) for entry in entries if entry.is_file()]
    for path in [target, *others]:
        if path in doomed.values() or path in besides:
            continue
        try:
            if path != target and path.suffix != ".onnx" and not _begins_as_model(path):
                continue
        except PermissionError:
            continue  # nothing says that it is a model
        for location in data_files(path):
            doomed.pop(_real(path.parent / location), None)
        if not doomed:
            break
    return list(doomed.values())


def _begins_as_model(path: Path) -> bool:
    """Return whether a file begins with the IR version, the first field of a ``ModelProto``."""
    try:
        with path.open("rb", buffering=0) as stream:
            head = stream.read(2)
    except FileNotFoundError:
        return False
    return len(head) == 2 and head[0] == _IR_VERSION_TAG and head[1] <= onnx.IR_VERSION


def _real(path: Path) -> str:
    """Return what a path leads to, in one spelling of it where a file system knows several."""
    return os.path.realpath(path).casefold()


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def has_inode(path: Path, inode: int | None) -> bool:
    """Return whether the file at a path, or the link, is the one that is meant."""
    try:
        return inode is not None and path.lstat().st_ino == inode
    except FileNotFoundError:
        return False


def _is_empty(path: Path) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and not status.st_size

"""Write a model so that its target is at every moment either the old file or the new one."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from normswap.errors import UsageError
from normswap.files.beside import not_written
from normswap.files.scratch import scratch_folder, sweep_scratch
from normswap.files.undisturbed import finish
from normswap.model.assembly import Assembly, assemble
from normswap.model.claims import NO_DATA, Claim, has_inode, sweep
from normswap.model.loading import Model, data_files

if TYPE_CHECKING:
    from collections.abc import Iterator

Place: TypeAlias = str | os.PathLike[str] | BinaryIO
"""Where a model goes."""


class Staged:
    """A model that lies beside its target, ready to be checked and to take its place.

    Made by :func:`stage`.

    Attributes
    ----------
    path : pathlib.Path
        A complete model, external data included.
    target : pathlib.Path
        Where :meth:`commit` moves it.
    data : pathlib.Path or None
        Its external data file, under its final name.
    size : int
        Size in bytes, external data included.
    """

    def __init__(self, save: _Save, path: Path, size: int) -> None:
        self.target = save.target
        self.path = path
        self.data = save.claim.data if save.data_inode else None
        self.size = size
        self._save = save

    def commit(self) -> None:
        """Put the model in the place of the target, in one step.

        External data that only the replaced model used is removed. If the target is the file that
        the model was loaded from, its tensors can't be read any more.

        Raises
        ------
        ModelError
            The operating system refuses.
        """
        self._save.commit(self.path)


@contextlib.contextmanager
def stage(
    model: Model,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    edited: bool = True,
) -> Iterator[Staged]:
    """Write a model beside its target; nothing but a commit changes the target.

    A model that has external data gets one new data file, ``<target>.data``, with a number in its
    name if that one exists: the old data stays untouched until the new model is in place. Tensors
    that nobody edited are copied by the kernel; computed ones are computed, written and freed one
    by one. All is on the disk before the context is entered.

    At its end, whatever ends it, the target is the old model or the new one, complete, and of the
    other nothing is left. What a killed process has left in the folder is removed too.

    Parameters
    ----------
    model : Model
    target : path
        May be the file that the model was loaded from.
    overwrite : bool
        Whether an existing target may be replaced. Its permissions stay.
    edited : bool
        See :func:`~normswap.model.assembly.assemble`.

    Yields
    ------
    Staged
        Call its ``commit()`` inside the context; without that everything is removed.

    Raises
    ------
    UsageError
        The target exists, or is no place for a file.
    ModelError
        The disk is full, the folder is read-only, and the like.
    """
    try:
        save = _Save(_checked_target(Path(target), overwrite=overwrite))
    except OSError as error:
        raise not_written(Path(target), error) from error
    try:
        sweep(save.target.parent)
        sweep_scratch()
        try:
            path, size = save.write(model, edited=edited)
        except OSError as error:
            raise not_written(save.target, error) from error
        yield Staged(save, path, size)
    finally:
        finish(save.settle)


class _Save:
    """The files of one save, and what is known of them."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.claim = Claim(_data_path(target, 0))
        self.data_inode: int | None = None
        self._model_inode: int | None = None

    def write(self, model: Model, *, edited: bool) -> tuple[Path, int]:
        """Write the model and its data; return where the model is, and the size of both."""
        for number in itertools.count():
            data = _data_path(self.target, number)
            self.claim = Claim(data)
            if not self.claim.take():
                continue
            assembly = assemble(model, data.name, edited=edited)
            if not assembly.data:
                return self._write_model(assembly)
            try:
                stream = data.open("xb")
            except FileExistsError:
                self.claim.give_up()
                continue
            with stream:
                self.data_inode = os.fstat(stream.fileno()).st_ino
                return self._write_both(assembly, stream, self.data_inode)
        raise AssertionError

    def _write_both(self, assembly: Assembly, data: BinaryIO, inode: int) -> tuple[Path, int]:
        self._keep_permissions(self.claim.data)
        with self._new_model(inode) as (path, stream):
            assembly.write_data(data)
            _sync(data)
            assembly.write_model(stream)
            _sync(stream)
        return path, path.stat().st_size + self.claim.data.stat().st_size

    def _write_model(self, assembly: Assembly) -> tuple[Path, int]:
        self.data_inode = NO_DATA
        with self._new_model(NO_DATA) as (path, stream):
            assembly.write_model(stream)
            _sync(stream)
        return path, path.stat().st_size

    def commit(self, path: Path) -> None:
        """Replace the target by the model at `path`; see :meth:`Staged.commit`."""
        try:
            self.claim.note(_own_data(self.target))
            if self.data_inode and not has_inode(self.claim.data, self.data_inode):
                raise FileNotFoundError(errno.ENOENT, f"{self.claim.data.name} has been removed")
            os.replace(path, self.target)  # noqa: PTH105 - the call that promises atomicity
        except OSError as error:
            # A file system over a network may do it and lose the answer.
            if not has_inode(self.target, self._model_inode):
                raise not_written(self.target, error) from error
        _sync_folder(self.target.parent)

    def settle(self) -> None:
        """Remove what is of no more use, or leave it to the next save if that can't be."""
        try:
            self.claim.settle(self.target, self.data_inode, self._model_inode)
        except OSError:
            with contextlib.suppress(OSError):
                self.claim.abandon()

    @contextlib.contextmanager
    def _new_model(self, data_inode: int) -> Iterator[tuple[Path, BinaryIO]]:
        path = self.claim.name_model(data_inode)
        path.unlink(missing_ok=True)
        with path.open("xb") as stream:
            self._model_inode = os.fstat(stream.fileno()).st_ino
            self._keep_permissions(path)
            yield path, stream

    def _keep_permissions(self, path: Path) -> None:
        """Let nobody read a file who could not read the one that it replaces."""
        if self.target.exists():
            path.chmod(stat.S_IMODE(self.target.stat().st_mode))


def _data_path(target: Path, number: int) -> Path:
    return target.with_name(f"{target.name}.{number}.data" if number else f"{target.name}.data")


def write_to(model: Model, stream: BinaryIO, *, edited: bool = True) -> None:
    """Write a model to a binary stream, external data included.

    Raises
    ------
    ModelError
        It is larger than the 2 GiB that a single file can be.
    """
    assemble(model, None, edited=edited).write_model(stream)


def _checked_target(target: Path, *, overwrite: bool) -> Path:
    # A symbolic link is replaced by a file: what it points to may be one of several models' (in a
    # content-addressed cache), and external data must lie beside the path that is opened.
    if "\0" in str(target):
        raise UsageError(f"{str(target)!r} is not a valid path: it contains a NUL character.")
    target = target.absolute()
    if target.is_dir():
        raise UsageError(f"{target} is a folder.", tip="Give the path of a file in it.")
    if target.exists() and not target.is_file():
        raise UsageError(
            f"{target} is not a regular file.", tip="To write to a pipe, use - as the output."
        )
    if (target.exists() or target.is_symlink()) and not overwrite:
        raise UsageError(
            f"{target} already exists.",
            tip="Choose another name, or allow it to be overwritten: --force (overwrite=True).",
        )
    if not target.parent.is_dir():
        raise UsageError(f"Folder {target.parent} doesn't exist.", tip="Create it first.")
    return target


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure, where that can be asked for.

    Windows and some file systems know no such thing, and a folder may be closed to readers.
    """
    if hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _own_data(target: Path) -> list[Path]:
    """Return the data files of the model at `target` that are named after it.

    None of a model that we may not read: nobody knows which they are, so they stay.
    """
    locations: set[str] = set()
    with contextlib.suppress(PermissionError):
        if target.is_file() and _has_namesakes(target):
            locations = data_files(target)
    names = {
        name
        for name in map(os.path.normpath, locations)
        if name.startswith(target.name) and os.path.basename(name) == name  # noqa: PTH119
    }
    return [path for path in map(target.with_name, sorted(names)) if path.exists()]


def _has_namesakes(target: Path) -> bool:
    """Whether other files beside it are named after it; else it needn't be read for theirs."""
    try:
        names = os.listdir(target.parent)  # noqa: PTH208 - no paths are made of them
    except OSError:  # a folder that nobody may read
        return True
    return any(name.startswith(target.name) and name != target.name for name in names)


@contextlib.contextmanager
def staged_output(
    model: Model, output: Place, *, overwrite: bool, edited: bool = True
) -> Iterator[Staged | Piped]:
    """Have a model in a file, wherever it goes; nothing moves before a commit."""
    if isinstance(output, str | os.PathLike):
        with stage(model, output, overwrite=overwrite, edited=edited) as staged:
            yield staged
        return
    with scratch_folder() as folder:
        path = folder / "model.onnx"
        with path.open("wb") as stream:
            write_to(model, stream, edited=edited)
        yield Piped(path, output)


class Piped:
    """A rewritten model that goes into a stream, as a whole, once it is good."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self.size = path.stat().st_size
        self._stream = stream

    def commit(self) -> None:
        """Write it."""
        with self.path.open("rb") as source:
            shutil.copyfileobj(source, self._stream, 1 << 20)
        self._stream.flush()


def output_name(output: Place) -> str:
    """Return what to call an output in messages."""
    return os.fspath(output) if isinstance(output, str | os.PathLike) else "<stdout>"

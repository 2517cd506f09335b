"""Write a model so that its target is at every moment either the old file or the new one."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from normswap.errors import ModelError, UsageError
from normswap.model.assembly import Assembly, assemble
from normswap.model.loading import data_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.model.loading import Model


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
    is_committed : bool
    size : int
        Size in bytes, external data included.
    """

    def __init__(self, target: Path, path: Path, data: Path | None, size: int) -> None:
        self.target = target
        self.path = path
        self.data = data
        self.size = size
        self.is_committed = False

    def commit(self) -> None:
        """Put the model in the place of the target, in one step.

        External data that only the replaced model used is removed. If the target is the file that
        the model was loaded from, its tensors can't be read any more.

        Raises
        ------
        ModelError
            The operating system refuses.
        """
        orphans = _orphans(self.target, keep=self.data)
        try:
            os.replace(self.path, self.target)  # noqa: PTH105 - the call that promises atomicity
        except OSError as error:
            raise _not_written(self.target, error) from error
        self.is_committed = True
        _sync_folder(self.target.parent)
        for orphan in orphans:
            with contextlib.suppress(OSError):  # it is only in the way, never wrong
                orphan.unlink()


@contextlib.contextmanager
def stage(
    model: Model, target: str | os.PathLike[str], *, overwrite: bool = False
) -> Iterator[Staged]:
    """Write an edited model beside its target; nothing but a commit changes the target.

    A model that has external data gets one new data file, ``<target>.data``, with a number in its
    name if that one exists: the old data stays untouched until the new model is in place. Tensors
    that nobody edited are copied by the kernel; computed ones are computed, written and freed one
    by one. All is on the disk before the context is entered.

    Parameters
    ----------
    model : Model
    target : path
        May be the file that the model was loaded from.
    overwrite : bool
        Whether an existing target may be replaced. Its permissions stay.

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
    target = _checked_target(Path(target), overwrite=overwrite)
    with contextlib.ExitStack() as cleanup:
        try:
            assembly, data = _write_data(model, target, cleanup)
            path = target.with_name(f".{target.name}.{os.urandom(8).hex()}.tmp")
            with _create(path, cleanup) as stream:
                if target.exists():
                    path.chmod(stat.S_IMODE(target.stat().st_mode))
                assembly.write_model(stream)
                _sync(stream)
            size = path.stat().st_size + (data.stat().st_size if data else 0)
        except OSError as error:
            raise _not_written(target, error) from error
        staged = Staged(target, path, data, size)
        yield staged
        if staged.is_committed:
            cleanup.pop_all()


def _write_data(
    model: Model, target: Path, cleanup: contextlib.ExitStack
) -> tuple[Assembly, Path | None]:
    """Lay the model out, and write its data file if it has one."""
    for number in itertools.count():
        suffix = f".{number}.data" if number else ".data"
        path = target.with_name(target.name + suffix)
        if path.exists() or path.is_symlink():
            continue
        assembly = assemble(model, path.name)
        if not assembly.data:
            return assembly, None
        with contextlib.suppress(FileExistsError), _create(path, cleanup) as stream:
            assembly.write_data(stream)
            _sync(stream)
            return assembly, path
    raise AssertionError


def _create(path: Path, cleanup: contextlib.ExitStack) -> BinaryIO:
    """Create a file that doesn't exist, to be removed at the end."""
    stream = path.open("xb")
    cleanup.callback(path.unlink, missing_ok=True)
    return stream


def write_to(model: Model, stream: BinaryIO) -> None:
    """Write an edited model to a binary stream, external data included.

    Raises
    ------
    ModelError
        It is larger than the 2 GiB that a single file can be.
    """
    assemble(model, None).write_model(stream)


def _checked_target(target: Path, *, overwrite: bool) -> Path:
    # A symbolic link is replaced by a file: what it points to may be one of several models' (in a
    # content-addressed cache), and external data must lie beside the path that is opened.
    target = target.absolute()
    if target.is_dir():
        raise UsageError(f"{target} is a folder.", tip="Give the path of a file in it.")
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is no regular file.", tip="To write to a pipe, use -.")
    if (target.exists() or target.is_symlink()) and not overwrite:
        raise UsageError(
            f"{target} exists.", tip="Choose another name, or say that it may be overwritten."
        )
    if not target.parent.is_dir():
        raise UsageError(f"The folder {target.parent} doesn't exist.", tip="Create it first.")
    return target


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure, where folders can be synced (not on Windows)."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _orphans(target: Path, *, keep: Path | None) -> list[Path]:
    """Return the data files of the model at `target` that nothing will need when it is replaced.

    Only those whose name begins with the target's own, and that no other model beside it uses.
    """
    if not target.is_file():
        return []
    orphans = {
        name
        for name in map(os.path.normpath, data_files(target))
        if name.startswith(target.name) and os.path.basename(name) == name  # noqa: PTH119
    }
    if keep is not None:
        orphans.discard(keep.name)
    if orphans:
        for other in target.parent.glob("*.onnx"):
            if other != target:
                orphans.difference_update(map(os.path.normpath, data_files(other)))
    return [target.with_name(name) for name in orphans]


def _not_written(target: Path, error: OSError) -> ModelError:
    return ModelError(f"{target} could not be written: {error.strerror or error}.")

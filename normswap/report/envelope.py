"""What every report in JSON has around it: what was run, by which versions, on which inputs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from normswap import __version__
from normswap.plain import AsDict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from normswap.report.wiring import Wiring


class Report(Protocol):
    """What a command found or did."""

    SCHEMA: ClassVar[str]

    @property
    def exit_code(self) -> int:
        """How the command ends."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        ...


@dataclass(frozen=True, slots=True)
class Input:
    """A file that was read.

    Attributes
    ----------
    path : str
        As it was given; that of external data is its model's folder and location.
    sha256 : str or None
        Of its bytes before the command wrote anything; None where it can't be read.
    """

    path: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Error:
    """Why a command ended without its report.

    Attributes
    ----------
    type : str
        Its class in :mod:`normswap.errors`; ``Interrupted``, ``OSError`` or ``InternalError``.
    tip : str or None
        What to do about it.
    """

    type: str
    message: str
    tip: str | None = None


@dataclass(frozen=True, slots=True)
class Failure(AsDict):
    """What is told in place of a report."""

    error: Error
    exit_code: int

    SCHEMA: ClassVar[str] = "normswap/error/1"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What was run.

    Attributes
    ----------
    command : str or None
        None where the arguments name none.
    exit_code : int
        How the process ends.
    inputs : tuple of Input
        Models with their external data, and data.
    normswap, onnx, onnxruntime : str or None
        Versions; None where it is not installed.
    error : Error or None
        Why there is no report.
    arguments : tuple of str
        Of the program; not part of the JSON.
    wirings : tuple of (Wiring or None)
        Of the models that were read, as they were then, and of the one that was written; for
        pictures, and empty where none are asked for.
    """

    command: str | None
    exit_code: int
    inputs: tuple[Input, ...] = ()
    normswap: str = __version__
    onnx: str | None = None
    onnxruntime: str | None = None
    error: Error | None = None
    arguments: tuple[str, ...] = field(default=(), repr=False)
    wirings: tuple[Wiring | None, ...] = field(default=(), repr=False)


def around(command: str | None, exit_code: int, inputs: tuple[Input, ...] = ()) -> Envelope:
    """Return the envelope of what was run here."""
    from normswap.runtime.providers import PACKAGES

    runtimes = ("onnxruntime", *dict.fromkeys(PACKAGES.values()))
    return Envelope(
        command, exit_code, inputs, onnx=_version("onnx"), onnxruntime=_version(*runtimes)
    )


def _version(*packages: str) -> str | None:
    """Return the version of the first of several packages that is installed; imports none."""
    import importlib.metadata

    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(package)
    return None


DATA = (".npz", ".npy", ".pb")
"""How files of arrays end."""


def files_of(path: Path) -> Iterator[Input]:
    """Yield what is read of a model or of data: the file, its external data, or the folder's."""
    from normswap.model.hashes import external_files, sha256_of

    if path.is_dir():
        found = [*path.glob("*"), *path.glob("test_data_set_*/*")]
        for file in sorted(file for file in found if file.suffix in DATA):
            yield Input(str(file), sha256_of(file))
        return
    yield Input(str(path), sha256_of(path))
    if not path.is_file() or path.suffix in {*DATA, ".json"}:
        return
    with contextlib.suppress(OSError):  # which the command itself will tell
        for file in external_files(path).values():
            yield Input(str(file), sha256_of(file))

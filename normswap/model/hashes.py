"""The files of a model by their hashes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from normswap.model.loading import data_files

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = 1 << 20  # bytes


def sha256_of(path: Path) -> str | None:
    """Return the hash of a file's bytes; None of what can't be read, or only once."""
    digest = hashlib.sha256()
    try:
        if not path.is_file():  # a pipe can be read only once
            return None
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def external_files(path: Path) -> dict[str, Path]:
    """Return the files of a model's external data, by their locations in the model.

    Raises
    ------
    OSError
        There is a model, and it can't be read.
    """
    found = {location: path.parent / location for location in sorted(data_files(path))}
    # A model that names a file elsewhere is refused, so nothing of that is read.
    folder = path.parent.resolve()
    return {name: file for name, file in found.items() if file.resolve().is_relative_to(folder)}

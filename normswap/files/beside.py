"""Files that are whole or not there: written beside their target, moved there in one step."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from normswap.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def placed(content: str | bytes | None, path: Path | None) -> Iterator[None]:
    """Write a file beside its target; move it there when the context ends without error.

    Parameters
    ----------
    content : str, bytes or None
        None writes nothing.
    path : Path or None
        The target; an existing file is replaced.

    Raises
    ------
    ModelError
        The operating system refuses.
    """
    if content is None or path is None:
        yield
        return
    beside = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        try:
            if isinstance(content, str):
                content = content.encode("utf-8", "surrogatepass")
            with beside.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise not_written(path, error) from error
        yield
        try:
            beside.replace(path)
        except OSError as error:
            raise not_written(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def not_written(path: Path, error: OSError) -> ModelError:
    """Return the error for a file that the operating system refuses."""
    return ModelError(f"{path} could not be written: {error.strerror or error}.")

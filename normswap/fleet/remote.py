"""Files behind a URL: read into a folder, and written as a whole, by fsspec.

A model has its external data beside it there as well. What is uploaded goes under new names or in
one step, data before the model that names it, so that who reads meanwhile gets the old model or
the new one.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from normswap.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_HTTP = ("http://", "https://")
_TAGS = (
    *("ETag", "etag", "sha256", "md5Hash", "crc32c", "blob_id", "checksum", "Content-MD5"),
    *("Last-Modified", "LastModified", "updated", "last_commit", "mtime", "created"),
)
"""What file systems tell of a file that changes with it, the surest first."""


def is_url(place: str) -> bool:
    """Return whether a place is behind a URL."""
    return _URL.match(place) is not None


def is_there(place: str) -> bool:
    """Return whether there is a file at a path or URL."""
    if not is_url(place):
        return os.path.lexists(place)
    with _words(place, "read"):
        files, path = _system(place)
        return bool(files.exists(path))


def those_there(urls: list[str]) -> list[str]:
    """Return which of many files are there, by few questions: what is in their common folder."""
    if len(urls) < 2:
        return [url for url in urls if is_there(url)]
    root = os.path.commonprefix(urls).rpartition("/")[0]  # noqa: RUF071 - cut at a slash
    if root.endswith(("/", ":")):  # nothing but the protocol is common
        return [url for url in urls if is_there(url)]
    with _words(root, "listed"):
        files, folder = _system(root)
        try:
            found = set(files.find(folder))
        except FileNotFoundError:
            return []
        return [url for url in urls if _system(url)[1] in found]


def name_of(url: str) -> str:
    """Return the name of a file behind a URL."""
    path = urlsplit(url).path if url.startswith(_HTTP) else url
    return unquote(PurePosixPath(path).name) if url.startswith(_HTTP) else PurePosixPath(path).name


def find(url: str, suffix: str) -> list[tuple[str, str]]:
    """Return the files that a URL stands for, each with its place below what was named.

    One that ends with the suffix is a file; else it is a pattern, or a folder.
    """
    head = urlsplit(url).path if url.startswith(_HTTP) else url
    if head.endswith(suffix) and "*" not in head:
        return [(url, name_of(url))]
    with _words(url, "listed"):
        files, path = _system(url)
        if "*" in path:
            below = path[: path.index("*")].rpartition("/")[0]
            found = files.glob(path)
        else:
            below = path.rstrip("/")
            found = files.find(path)
        names = sorted(name for name in found if str(name).endswith(suffix))
        return [(files.unstrip_protocol(name), name[len(below) :].lstrip("/")) for name in names]


def fetch(url: str, folder: Path) -> dict[str, str]:
    """Download a model with its external data, block by block.

    Parameters
    ----------
    folder : Path
        Where to.

    Returns
    -------
    dict of str to str
        The URLs of all that was read by where it is now, the model first.

    Raises
    ------
    ModelError
        It is not there, or can't be read.
    UsageError
        A package is missing.
    """
    from normswap.model.hashes import external_files

    folder.mkdir()
    path = folder / (name_of(url) or "model.onnx")
    _download(url, path)
    read = {str(path): url}
    for location, file in external_files(path).items():
        beside = _beside(url, location)
        with contextlib.suppress(FileNotFoundError):  # which is told where the model is loaded
            file.parent.mkdir(parents=True, exist_ok=True)
            _download(beside, file, missing_ok=True)
            read[str(file)] = beside
    return read


def prepare(url: str, folder: Path) -> Path:
    """Return where to write what is to go to a URL, beside names that are taken there.

    The external data of a model gets a name that is not taken: what is there belongs to the model
    that is there.
    """
    folder.mkdir()
    target = folder / name_of(url)
    with _words(url, "written"):
        files, path = _system(url)
        for name in _data_names(files, path):
            (folder / name).touch()
    return target


def send(target: Path, url: str) -> None:
    """Upload a model, its data first; what only the replaced model used is removed then.

    Raises
    ------
    ModelError
        It can't be written.
    """
    from normswap.model.hashes import external_files

    with _words(url, "written"):
        files, path = _system(url)
        parent = path.rpartition("/")[0]
        before = _data_names(files, path)
        data = external_files(target)
        with files.transaction:
            for location, file in data.items():
                files.put_file(str(file), f"{parent}/{location}")
            files.put_file(str(target), path)
        for name in before - set(data):
            files.rm_file(f"{parent}/{name}")


def tag(url: str) -> str | None:
    """Return what changes with a file behind a URL; None where nobody tells."""
    with contextlib.suppress(Exception):  # then it is read again, which tells what is wrong
        files, path = _system(url)
        files.invalidate_cache()
        info = files.info(path)
        found = next((info[key] for key in _TAGS if info.get(key)), None)
        return None if found is None else f"{info.get('size')} {found}"
    return None


def size_of(url: str) -> int:
    """Return the bytes of a model behind a URL and of its data, by their names; 0 if untold."""
    with contextlib.suppress(Exception):  # then it is read, which tells what is wrong
        files, path = _system(url)
        size = files.size(path) or 0
        parent = path.rpartition("/")[0]
        data = _data_names(files, path, fresh=False)
        return size + sum(files.size(f"{parent}/{name}") or 0 for name in data)
    return 0


def _data_names(files: Any, path: str, *, fresh: bool = True) -> set[str]:
    """Return the names there of external data that are a model's by its name."""
    parent, _, name = path.rpartition("/")
    pattern = re.compile(re.escape(name) + r"(\.\d+)?\.data")
    if fresh:
        files.invalidate_cache()
    try:
        listed = files.ls(parent, detail=False)
    except FileNotFoundError:
        return set()
    names = (str(each).rstrip("/").rpartition("/")[2] for each in listed)
    return {name for name in names if pattern.fullmatch(name)}


def _beside(url: str, location: str) -> str:
    if not url.startswith(_HTTP):
        return f"{url.rpartition('/')[0]}/{location}"
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rpartition('/')[0]}/{quote(location)}").geturl()


def _download(url: str, path: Path, *, missing_ok: bool = False) -> None:
    with _words(url, "read", missing_ok=missing_ok):
        files, there = _system(url)
        files.get_file(there, str(path))


def _system(url: str) -> tuple[Any, str]:
    """Return a file system, and a path in it."""
    try:
        import fsspec
    except ImportError:
        raise UsageError(
            f"Reading {url} needs the package fsspec.",
            tip="Install it: pip install 'normswap[remote]'",
        ) from None
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UsageError(
            f"Reading {url} needs another package: {error}.",
            tip="See docs/fleets.md for the package of each protocol.",
        ) from None
    except ValueError as error:
        raise UsageError(f"{url} can't be read: {error}.") from None
    return found


@contextlib.contextmanager
def _words(url: str, verb: str, *, missing_ok: bool = False) -> Iterator[None]:
    """Tell what file systems raise, which is what they like, in a sentence."""
    try:
        yield
    except UsageError:
        raise
    except FileNotFoundError as error:
        if missing_ok:
            raise
        raise ModelError(f"{url} doesn't exist.") from error
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{url} could not be {verb}: {said}.") from error

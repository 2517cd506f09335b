"""What names stand for, one after another: files, folders, patterns, URLs; and where results go."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from normswap.errors import UsageError
from normswap.fleet import remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SUFFIX = ".onnx"
"""Of the files of a folder that are models."""

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model.

    Attributes
    ----------
    path : str
        A path or URL.
    under : str
        The same from the folder on that was named, with slashes; the name of a file that was.
    searched : bool
        Whether it was found in a folder or by a pattern, and not named itself.
    """

    path: str
    under: str
    searched: bool = False


def is_many(word: str) -> bool:
    """Return whether a name stands for other than one file of this machine."""
    return remote.is_url(word) or os.path.isdir(word) or _is_pattern(word)  # noqa: PTH112 - no Path for --help


def find(words: Iterable[str], *, listed: bool = False) -> list[FoundModel]:
    """Return the models that names stand for, each once, those of a folder in their order.

    Parameters
    ----------
    listed : bool
        Whether they are the lines of a list: then a relative path is kept as it is.

    Raises
    ------
    UsageError
        A folder or pattern has no model.
    """
    found: dict[str, FoundModel] = {}
    for word in words:
        before = len(found)
        for each in _found(word, listed=listed):
            found.setdefault(identity(each.path), each)
        if len(found) == before and is_many(word) and not any(_found(word, listed=listed)):
            raise UsageError(f"No *{SUFFIX} files were found in {word}.")
    return list(found.values())


def _found(word: str, *, listed: bool) -> Iterator[FoundModel]:
    if not word:
        raise UsageError("The path of a model is empty.")
    if remote.is_url(word):
        yield from (
            FoundModel(*each, searched=each[0] != word) for each in remote.find(word, SUFFIX)
        )
    elif os.path.isdir(word):  # noqa: PTH112 - as in is_many
        yield from _in_folder(Path(word))
    elif _is_pattern(word):
        fixed = os.path.dirname(word[: glob.escape(word).index("[")])  # noqa: PTH120 - text
        for name in sorted(glob.glob(word, recursive=True)):  # noqa: PTH207 - keeps names as typed
            path = Path(name)
            if path.is_dir():
                continue
            yield FoundModel(
                name, PurePosixPath(os.path.relpath(name, fixed or ".")).as_posix(), True
            )
    else:
        relative = listed and not os.path.isabs(word) and ".." not in Path(word).parts  # noqa: PTH117 - text
        yield FoundModel(word, Path(word).as_posix() if relative else Path(word).name)


def _in_folder(folder: Path) -> Iterator[FoundModel]:
    """Yield the models of a folder and of those in it, but for hidden ones."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(here, name)
            if name.endswith(SUFFIX) and not name.startswith("."):
                yield FoundModel(str(path), path.relative_to(folder).as_posix(), True)


def pairs(originals: str, rewritten: str) -> list[tuple[str, str]]:
    """Return what two folders have of the same name; of what one lacks the path is given too.

    That it is not there is told where it is looked at, as of any other model.
    """
    here, there = (
        {found.under: found.path for found in find([folder])} for folder in (originals, rewritten)
    )
    return [
        (here.get(name) or joined(originals, name), there.get(name) or joined(rewritten, name))
        for name in sorted({*here, *there})
    ]


def joined(folder: str, name: str) -> str:
    """Return the path or URL of a file in a folder; its name has slashes."""
    if remote.is_url(folder):
        return f"{folder.rstrip('/')}/{name}"
    return str(Path(folder, name))


def identity(path: str) -> str:
    """Return what two names of one file have in common."""
    if remote.is_url(path):
        return path
    return os.path.normcase(os.path.realpath(path))


def is_within(path: str, folder: str) -> bool:
    """Return whether a file is in a folder, or in one of those in it."""
    here, there = identity(path), identity(folder).rstrip("/")
    return here.startswith((f"{there}/", f"{there}{os.sep}"))


def require_apart(models: Sequence[str], outputs: Sequence[str]) -> None:
    """Refuse outputs of which two are one file, or one is a model that is read.

    Raises
    ------
    UsageError
        It names them.
    """
    taken: dict[str, str] = {}
    read = {identity(model): model for model in models}
    for model, output in zip(models, outputs, strict=True):
        key = identity(output)
        if key in taken:
            raise UsageError(
                f"{taken[key]} and {model} would both go to {output}.",
                tip="Name the folder that contains both, or a quoted pattern: results then "
                "keep the folder structure below it.",
            )
        taken[key] = model
        if key in read:
            raise UsageError(
                f"{output} would be overwritten, but is itself one of the input models.",
                tip="Choose another folder, or use --in-place to replace the models.",
            )


def require_absent(outputs: Iterable[str]) -> None:
    """Refuse outputs that are there already.

    Raises
    ------
    UsageError
        It names the first.
    """
    here: list[str] = []
    urls: list[str] = []
    for output in outputs:
        (urls if remote.is_url(output) else here).append(output)
    there = [output for output in here if os.path.lexists(output)] + remote.those_there(urls)
    if there:
        more = f" and {len(there) - _SHOWN} more" * (len(there) > _SHOWN)
        verb = "exist" if there[1:] else "exists"
        raise UsageError(
            f"{', '.join(there[:_SHOWN])}{more} already {verb}.",
            tip="Use --force to replace existing files, or choose another folder. With "
            "--resume FOLDER from the first run on, results of earlier runs are "
            "recognized.",
        )


def _is_pattern(word: str) -> bool:
    return glob.has_magic(word) and not os.path.lexists(word)

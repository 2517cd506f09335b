"""What somebody may have meant who wrote a name that is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

SUFFIXES = frozenset({".onnx", ".npz", ".npy", ".pb", ".json", ".toml"})
"""Of files that are read here."""


def did_you_mean(word: str, known: Iterable[str], *, most: int = 1) -> str | None:
    """Return a question that names what is close to a word; None where nothing is.

    Parameters
    ----------
    known : iterable of str
        What it could have been.
    most : int
        How many it names at most.

    Examples
    --------
    >>> did_you_mean("fodl", ["fold", "unfold", "check"])
    "Did you mean 'fold'?"
    >>> did_you_mean("zzz", ["fold"])
    """
    import difflib  # for a mistake only

    names = sorted(set(known), key=len)
    inside = [name for name in names if len(word) > 2 and word in name]
    close = list(dict.fromkeys([*difflib.get_close_matches(word, names, n=most), *inside]))[:most]
    return f"Did you mean {' or '.join(map(repr, close))}?" if close else None


def no_such_file(path: str | os.PathLike[str]) -> str | None:
    """Return a question that names the file beside a path that is none; None where none is close.

    Parameters
    ----------
    path : path
        At which there is nothing.
    """
    from pathlib import Path

    wanted = Path(path)
    try:
        beside = [each for each in wanted.parent.iterdir() if each.suffix in SUFFIXES]
    except OSError:
        return None
    alike = [each for each in beside if each.suffix == wanted.suffix] or beside
    return did_you_mean(str(wanted), [str(wanted.parent / each.name) for each in alike])

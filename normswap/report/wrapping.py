"""Where a sentence goes on in the next line.

Words stay whole, and so does a command between backticks, whatever it takes: it is there to be
copied. A number keeps its unit, and an arrow what it leads to. The name of a tensor that is longer
than a line is broken behind a part of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEAST = 20
"""Columns that sentences need; with fewer they run over."""

_WORD = re.compile(r"[^\s`]*`[^`]+`[^\s`]*|\S*\d (?:m?s|dB|[kMGT]i?B)\b\S*|→ \S+|\S+")
_PART = re.compile(r"[^/._]*[/._]+|[^/._]+")


def spans(text: str, room: int, measure: Callable[[str], int] = len) -> Iterator[tuple[int, int]]:
    """Yield where the lines of a text begin and end, without the space between two.

    Parameters
    ----------
    text : str
        Without line breaks.
    room : int
        Columns of a line.
    measure : callable
        Returns how many columns a text takes.
    """
    begin = end = 0
    for start, stop in _pieces(text, room, measure):
        if end and measure(text[begin:stop]) > room:
            yield begin, end
            begin = start
        elif not end:
            begin = start
        end = stop
    yield begin, end


def hanging(text: str, width: int) -> str:
    """Return a text in lines of a width, all but the first indented by two."""
    room = max(width - 2, LEAST)
    if len(text) <= width:
        return text
    return "\n  ".join(text[begin:end] for begin, end in spans(text, room))


def _pieces(text: str, room: int, measure: Callable[[str], int]) -> Iterator[tuple[int, int]]:
    """Yield what is not broken: words, or parts of those that are longer than a line."""
    for word in _WORD.finditer(text):
        if "`" in word[0] or measure(word[0]) <= room:
            yield word.span()
            continue
        for part in _PART.finditer(text, *word.span()):
            begin, end = part.span()
            yield from ((at, min(at + room, end)) for at in range(begin, end, room))

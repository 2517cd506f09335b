"""How text comes into a stream, and the pieces that several reports have."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDEST = 100_000
"""Columns into a pipe or file, where nothing needs to be wrapped."""


@contextlib.contextmanager
def printing(stream: TextIO) -> Iterator[Console]:
    """Give a console whose lines go to a stream in the end, which is no terminal of its own."""
    console = Console(file=stream, highlight=False)
    if not console.is_terminal:
        console.width = WIDEST
    with console.capture() as capture:
        yield console
    stream.writelines(
        line.rstrip() + "\n" for line in capture.get().splitlines()
    )  # rich pads the cells of the last column


def new_table(*columns: str) -> Table:
    """Return a table without lines."""
    made = Table(box=None, padding=(0, 1, 0, 2), header_style="dim")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def place(graph: str, node: str) -> str:
    """Return what to call a node that may be in a subgraph."""
    return f"{graph}/{node}" if graph else node


def sizes(output: str | None, before: int, after: int | None) -> str:
    """Say what was written, and how large it is."""
    if not output:
        return f"nothing written; the model has {decimal(before)}"
    return f"{escape(output)}  {decimal(before)} → {decimal(after or 0)}"

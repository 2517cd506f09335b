"""How text comes into a stream, and the pieces that several reports have."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.groupnorm.plan import Untouched

SHOWN = 8
"""Layers that are listed one by one without being asked."""

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


def kept_table(untouched: Sequence[Untouched], *, verbose: int) -> Table:
    """Return a table of the normalizations that stay as they are; from `verbose` 1 on of all."""
    table = new_table("kept", "because")
    shown = untouched if verbose > 0 else untouched[:SHOWN]
    for entry in shown:
        table.add_row(escape(place(entry.site.graph, entry.site.node)), escape(entry.detail))
    if len(shown) < len(untouched):
        table.add_row(f"and {len(untouched) - len(shown)} more", "-v lists all")
    return table


def print_notes(notes: Sequence[str], console: Console) -> None:
    """Print what a person should know, a line each."""
    for note in notes:
        console.print(f"  [dim]note: {escape(note)}[/]")


def sizes(output: str | None, before: int, after: int | None, *, idle: str = "") -> str:
    """Say what was written, and how large it is.

    Parameters
    ----------
    output : str or None
    before, after : int
        Bytes.
    idle : str
        Why there was nothing to do, where that is so.
    """
    if not output:
        what = f"{idle}, so nothing was written" if idle else "nothing written"
        return f"{what}; the model has {decimal(before)}"
    if idle:
        return f"{escape(output)}  {idle}, so it is a copy of the model, {decimal(after or 0)}"
    return f"{escape(output)}  {decimal(before)} → {decimal(after or 0)}"

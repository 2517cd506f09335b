"""Tables and sentences that read well at any width of a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from normswap.report.wrapping import LEAST, spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import ConsoleOptions, RenderResult

LISTS = "-v lists all"
"""A cell that says how to see the rows that are left out."""

UNKNOWN = "-"
"""A cell of a figure that is not known."""

BESIDE, LEAD, UNDER = 3, 2, 4
"""Columns around a cell, before a row, and before what stands under it."""


class Listing(Table):
    """A table without lines, as it fits: as it is, with one column wrapped, or row by row.

    Names are never broken to make room for others: where the words of a row don't fit beside each
    other, its first cells are a line, and the rest follows under it, each with its title. A column
    without a word in it is left out.

    Parameters
    ----------
    *columns : str
        Their titles.
    lead : int
        How many cells are the first line of a row that is told line by line.
    """

    def __init__(self, *columns: str, lead: int = 1) -> None:
        super().__init__(box=None, padding=(0, 1, 0, 2), header_style="dim")
        self.lead = lead
        for column in columns:
            self.add_column(column, overflow="fold")

    def add_rows(self, rows: Sequence[Sequence[str]], most: int | None, *, at: int = 1) -> None:
        """Add rows; where there are more than so many, say how many are left out.

        Parameters
        ----------
        most : int or None
            None adds them all.
        at : int
            The column that says how to see them.
        """
        for row in rows[:most]:
            self.add_row(*row)
        if most is not None and len(rows) > most:
            self.add_row(f"and {len(rows) - most} more", *[""] * (at - 1), LISTS)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what is shown at a width."""
        self.columns = [
            column
            for number, column in enumerate(self.columns)
            if number < self.lead or any(column.cells)
        ]
        rows = self._texts(console)
        columns = list(zip(*rows, strict=True))
        sizes = [max(map(_width, cells)) for cells in columns]
        least = [
            min(max(_longest(cells), LEAST), size)
            for cells, size in zip(columns, sizes, strict=True)
        ]
        # The one to wrap is the one that gains most by it.
        wrapped = max(range(len(sizes)), key=lambda at: sizes[at] - least[at], default=0)
        needed = sum(sizes) + BESIDE * len(sizes) - sum(sizes[wrapped : wrapped + 1])
        if needed + sum(least[wrapped : wrapped + 1]) > options.max_width:
            yield from self._blocks(rows, options.max_width)
            return
        for number, column in enumerate(self.columns):
            column.no_wrap = number != wrapped
        yield from super().__rich_console__(console, options)

    def _texts(self, console: Console) -> list[list[Text]]:
        """Return the rows, the titles first where they are shown."""
        columns: list[list[Text]] = []
        for column in self.columns:
            cells = [_text(console, cell) for cell in column.cells]
            columns.append(([_text(console, column.header)] if self.show_header else []) + cells)
        return [list(row) for row in zip(*columns, strict=True)]

    def _blocks(self, rows: list[list[Text]], width: int) -> Iterator[Text]:
        titles = [""] * len(self.columns)
        if self.show_header:
            titles, rows = [title.plain for title in rows[0]], rows[1:]
            yield Text(" " * LEAD + ", ".join(filter(None, titles[: self.lead])), "dim")
        for row in rows:
            first = Text("  ").join(cell for cell in row[: self.lead] if cell.plain)
            yield from hanging(first, width, LEAD)
            items = [
                _titled(title, line) if not number else line
                for title, cell in zip(titles[self.lead :], row[self.lead :], strict=True)
                for number, line in enumerate(cell.split("\n"))
                if line.plain not in {"", UNKNOWN}
            ]
            yield from _flowed(items, width)


def _width(cell: Text) -> int:
    return max(map(cell_len, cell.plain.split("\n")))


def _longest(cells: Iterable[Text]) -> int:
    """Return the width of the longest word."""
    return max((cell_len(word) for cell in cells for word in cell.plain.split()), default=0)


def _text(console: Console, cell: Any) -> Text:
    return cell if isinstance(cell, Text) else console.render_str(str(cell), emoji=False)


def _titled(title: str, cell: Text) -> Text:
    return Text.assemble((f"{title} ", "dim"), cell) if title and cell.plain != LISTS else cell


def _flowed(items: list[Text], width: int) -> Iterator[Text]:
    """Yield items one after another, as many in a line as fit; none begins where it must break."""
    line = Text()
    for item in items:
        joined = Text.assemble(line, (" · ", "dim"), item) if line.plain else item
        if line.plain and UNDER + joined.cell_len > width:
            yield from hanging(line, width, UNDER)
            joined = item
        line = joined
    if line.plain:
        yield from hanging(line, width, UNDER)


def hanging(text: Text, width: int, indent: int) -> Iterator[Text]:
    """Yield the lines of a text, all but the first of which are indented further by two."""
    room = max(width - indent - 2, LEAST)
    if indent + text.cell_len <= width:
        yield Text.assemble(" " * indent, text)
        return
    for number, (begin, end) in enumerate(spans(text.plain, room, cell_len)):
        yield Text.assemble(" " * (indent + 2 * (number > 0)), text[begin:end])


class HangingConsole(Console):
    """A console whose sentences stay under their first word where they go on in the next line."""

    def print(self, *objects: Any, **how: Any) -> None:
        """Print as a console does; a sentence by itself in lines of one indentation."""
        if len(objects) != 1 or how or not isinstance(objects[0], str | Text):
            super().print(*objects, **how)
            return
        text = _text(self, objects[0])
        for line in text.split("\n", allow_blank=True) if text.plain else [text]:
            indent = len(line.plain) - len(line.plain.lstrip(" "))
            for each in hanging(line[indent:], self.width, indent):
                super().print(each, soft_wrap=True)

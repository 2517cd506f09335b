"""What a page is made of, whichever report it tells: a verdict, figures, and blocks in sections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from normswap.report.pages.neighbourhood import Kind

Tone = Literal["good", "bad", "doubtful", "plain"]


@dataclass(frozen=True, slots=True)
class Name:
    """A cell that is the name of a node, a tensor or a file."""

    text: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A cell that is a number: as it is shown, and as it is sorted by."""

    text: str
    value: float

    @property
    def key(self) -> str:
        """The value as scripts of a page read it."""
        return str(float(self.value)).replace("inf", "Infinity")


@dataclass(frozen=True, slots=True)
class Word:
    """A cell that is a verdict or another word of a few."""

    text: str
    tone: Tone = "plain"


UNKNOWN = "-"
"""How a figure is shown that is not known."""

Cell: TypeAlias = str | Name | Figure | Word


@dataclass(frozen=True, slots=True)
class Table:
    """A table, which sorts and filters where it is long enough for that."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    KIND: ClassVar = "table"

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns are figures."""
        return tuple(
            any(isinstance(row[at], Figure) for row in self.rows) for at in range(len(self.columns))
        )


@dataclass(frozen=True, slots=True)
class Series:
    """Figures of a plot, one a point, None where there is none."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure a layer, or whatever the points are.

    Attributes
    ----------
    unit : str
        What the values are.
    points : tuple of str
        What each is called.
    series : tuple of Series
        As bars where there is one, as dots where there are several.
    limit : float or None
        What no value may exceed.
    told : str
        What it shows, for whoever does not see it.
    """

    caption: str
    unit: str
    points: tuple[str, ...]
    series: tuple[Series, ...]
    limit: float | None = None
    told: str = ""

    KIND: ClassVar = "plot"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Places before and after; those that look alike are one picture."""

    kinds: tuple[Kind, ...]
    columns: tuple[str, ...]
    left_out: int = 0

    KIND: ClassVar = "pictures"


@dataclass(frozen=True, slots=True)
class Items:
    """Sentences."""

    lines: tuple[str, ...]

    KIND: ClassVar = "items"


Block: TypeAlias = Table | Plot | Pictures | Items


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: tuple[Block, ...]
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A report.

    Attributes
    ----------
    command, subject : str
        What was run, on what.
    said : str
        What the verdict rests on, in a sentence.
    figures : tuple of (str, str)
        What each is of, and how much.
    """

    command: str
    subject: str
    verdict: Word
    said: str
    figures: tuple[tuple[str, str], ...] = ()
    sections: tuple[Section, ...] = field(default=())


def section(title: str, blocks: Iterable[Block], lead: str = "") -> tuple[Section, ...]:
    """Return a section of the blocks that have something in them; none where no block has."""
    full = tuple(block for block in blocks if not is_empty(block))
    return (Section(title, full, lead),) if full else ()


def is_empty(block: Block) -> bool:
    """Whether there is nothing in a block."""
    if isinstance(block, Table):
        return not block.rows
    if isinstance(block, Plot):
        return not any(value for each in block.series for value in each.values)
    return not (block.kinds if isinstance(block, Pictures) else block.lines)


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """Return a table, without the columns in which nothing stands."""
    listed = list(map(tuple, rows))
    full = [
        at
        for at in range(len(columns))
        if any(_text(row[at]) not in {"", UNKNOWN} for row in listed)
    ]
    kept = tuple(tuple(row[at] for at in full) for row in listed)
    return Table(caption, tuple(columns[at] for at in full), kept)


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell.text

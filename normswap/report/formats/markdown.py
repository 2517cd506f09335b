"""Reports for pull requests, wikis and job summaries: headings, lists and tables in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from normswap.report.next import tips
from normswap.report.pages import page_of
from normswap.report.pages.page import Items, Name, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.report.envelope import Envelope, Report
    from normswap.report.pages.page import Block, Cell, Page


def tell(
    report: Report, stream: TextIO, *, verbose: int = 0, envelope: Envelope | None = None
) -> None:
    """Write a report as Markdown, everything listed one by one; at `verbose` -1 its first line."""
    lines = _lines(page_of(report))
    if verbose < 0:
        lines = iter([next(lines)])
    stream.writelines(f"{line}\n" for line in lines)
    if verbose >= 0:
        stream.writelines(f"\nTip: {_coded(tip.rstrip('.'))}.\n" for tip in tips(report, envelope))


def _lines(page: Page) -> Iterator[str]:
    yield "## " + ": ".join(_text(each) for each in (page.subject, page.verdict.text) if each)
    if page.said:
        yield from ("", _text(page.said))
    if page.figures:
        yield from ("", _text(", ".join(" ".join(figure) for figure in page.figures)))
    for section in page.sections:
        yield from ("", f"### {_text(section.title)}")
        if section.lead:
            yield from ("", _text(section.lead))
        for block in section.blocks:
            yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    """Yield a table or a list; pictures and plots are of what stands in tables too."""
    if isinstance(block, Items):
        yield from ("", *(f"- {_coded(line)}" for line in block.lines))
    elif isinstance(block, Table):
        yield from ("", f"{_text(block.caption)}:", "")
        yield from (f"| {' | '.join(block.columns)} |", f"|{' --- |' * len(block.columns)}")
        yield from (f"| {' | '.join(map(_cell, row))} |" for row in block.rows)


def _cell(cell: Cell) -> str:
    if isinstance(cell, Name):
        return _code(cell.text) if cell.text else ""
    return _coded(cell if isinstance(cell, str) else cell.text)


def _code(name: str) -> str:
    """Return a name as code; what would end the code or the cell is escaped or left out."""
    return f"`{name.replace('`', '')}`".replace("|", "\\|").replace("\n", " ")


def _coded(sentence: str) -> str:
    """Return a sentence in which what stands between backticks is code."""
    parts = sentence.split("`")
    return "".join(_code(part) if at % 2 else _text(part) for at, part in enumerate(parts))


def _text(sentence: str) -> str:
    """Return a sentence in which nothing is Markdown."""
    escaped = "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in sentence)
    return escaped.replace("\n", " ")

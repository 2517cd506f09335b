"""What changed between two models: nodes gone and new, changed, constants, and names."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.markup import escape

from normswap.report.differing import changed, constant, summary
from normswap.report.formats.text.console import printing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from normswap.workflows.diff import DiffReport

SHOWN = 20
"""Lines of a kind that are shown without being asked."""

RENAMED = 5
"""Names that are."""


def tell(report: DiffReport, stream: TextIO, *, verbose: int = 0) -> None:
    """Print what changed; from `verbose` 1 on all of it."""
    with printing(stream) as console:
        console.print(f"[bold]{escape(report.before)} → {escape(report.after)}[/]")
        every = (
            (f"{change.name}: {change.before or 'none'} → {change.after or 'none'}")
            for change in (*report.head, *report.interface)
        )
        _lines(every, "~", "yellow", console, verbose=verbose)
        _lines(report.gone, "-", "red", console, verbose=verbose)
        _lines(report.new, "+", "green", console, verbose=verbose)
        for found in (map(changed, report.changed), map(constant, report.constants)):
            _lines(map(": ".join, found), "~", "yellow", console, verbose=verbose)
        names = (f"{each.kind} {each.before} → {each.after}" for each in report.renamed)
        _lines(names, "=", "dim", console, verbose=verbose, shown=RENAMED)
        console.print(escape(summary(report)))


def _lines(
    lines: Iterable[str],
    sign: str,
    colour: str,
    console: Console,
    *,
    verbose: int,
    shown: int = SHOWN,
) -> None:
    every = list(lines)
    for line in every if verbose > 0 else every[:shown]:
        console.print(f"  [{colour}]{sign}[/] {escape(line)}")
    if verbose < 1 and len(every) > shown:
        console.print(f"  [{colour}]{sign}[/] and {len(every) - shown} more; -v lists all")

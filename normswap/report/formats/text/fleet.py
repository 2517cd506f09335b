"""What came of many models: a line each, and below it, if asked, what the command tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.markup import escape

from normswap.report.formats.text.console import printing

if TYPE_CHECKING:
    from normswap.fleet.work import FleetReport

COLOURS = {0: "green", 1: "yellow"}
"""By the exit code of a model; what is neither could not be looked at."""


def tell(report: FleetReport, stream: TextIO, *, verbose: int = 0) -> None:
    """Print what came of each model; from `verbose` 1 on its own report too."""
    with printing(stream) as console:
        for each in report.models:
            colour = COLOURS.get(each.exit_code, "red")
            goes = f"  → {escape(each.output)}" if each.output else ""
            same = "  [dim]unchanged[/]" if each.unchanged else ""
            head = f"[bold]{escape(each.model)}[/]  [{colour}]{escape(each.line)}[/]{goes}{same}"
            console.print(head)
            if verbose > 0:
                console.print(escape(each.text), soft_wrap=True)

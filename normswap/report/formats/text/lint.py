"""What should not be in models as it is: a line a finding, under its model."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.markup import escape

from normswap.report.formats.text.console import printing
from normswap.report.formats.text.listing import LISTS, Listing
from normswap.report.linted import summary

if TYPE_CHECKING:
    from normswap.workflows.lint import LintReport

COLOURS = {"note": "dim", "warning": "yellow", "error": "red"}

SHOWN = 10
"""Findings of one rule in one model that are listed without being asked."""


def tell(report: LintReport, stream: TextIO, *, verbose: int = 0) -> None:
    """Print findings; from `verbose` 1 on all of a rule."""
    with printing(stream) as console:
        for model in report.models:
            if model.error:
                console.print(f"[bold]{escape(model.source)}[/]  [red]{escape(model.error)}[/]")
            elif model.findings:
                console.print(f"[bold]{escape(model.source)}[/]")
                table = Listing("", "", "", "", lead=3)
                table.show_header = False
                for code in dict.fromkeys(finding.code for finding in model.findings):
                    found = [finding for finding in model.findings if finding.code == code]
                    shown = found if verbose > 0 else found[:SHOWN]
                    for finding in shown:
                        colour = COLOURS[finding.level]
                        fixable = " [fixable]" if finding.fixable else ""
                        table.add_row(
                            f"[{colour}]{finding.code}[/]",
                            finding.name,
                            escape(finding.place),
                            escape(finding.message + fixable),
                        )
                    if len(shown) < len(found):
                        rest = len(found) - len(shown)
                        table.add_row(code, found[0].name, f"and {rest} more", LISTS)
                console.print(table)
        console.print(escape(summary(report)))

"""Whether a certificate holds: each claim that does not, and a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.markup import escape

from normswap.report.formats.text.console import print_notes, printing
from normswap.report.standing import verified

if TYPE_CHECKING:
    from normswap.workflows.verify import VerifyReport

SHOWN = 8
"""Claims that are listed without being asked."""


def tell(report: VerifyReport, stream: TextIO, *, verbose: int = 0) -> None:
    """Print what verifying a certificate came to; from `verbose` 1 on every finding is listed."""
    shown = report.findings if verbose > 0 else report.findings[:SHOWN]
    with printing(stream) as console:
        for finding in shown:
            console.print(f"  {escape(str(finding))}")
        if len(shown) < len(report.findings):
            console.print(f"  and {len(report.findings) - len(shown)} more; -v lists all")
        print_notes(report.notes, console)
        verdict = "[bold green]holds[/]" if report.holds else "[bold red]does not hold[/]"
        console.print(f"{verdict}: {escape(verified(report))} ({report.seconds:.1f} s)")

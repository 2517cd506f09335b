"""The rules of lint: a table of all, or one with its reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.markup import escape

from normswap.report.formats.text.console import printing
from normswap.report.formats.text.listing import Listing

if TYPE_CHECKING:
    from normswap.workflows.lint import RulesReport


def tell(report: RulesReport, stream: TextIO, *, verbose: int = 0) -> None:
    """Print rules; from `verbose` 1 on why they matter and what to do."""
    with printing(stream) as console:
        if verbose < 1:
            table = Listing("code", "rule", "level", "what it finds", lead=3)
            for rule in report.rules:
                what = rule.what + (" (--fix removes it)" if rule.fix else "")
                table.add_row(rule.code, rule.name, rule.level, escape(what))
            console.print(table)
            return
        for rule in report.rules:
            console.print(f"[bold]{rule.code}[/] {rule.name} ({rule.level})")
            for sentence in (rule.what, rule.why, rule.how):
                console.print(f"  {escape(sentence)}")
            if rule.fix:
                console.print(f"  lint --fix removes it, as normswap {rule.fix} does.")

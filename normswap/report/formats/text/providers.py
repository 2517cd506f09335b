"""Which execution providers run here, and what is in the way of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.markup import escape

from normswap.report.formats.text.console import new_table, printing
from normswap.runtime.providers import short_name

if TYPE_CHECKING:
    from normswap.runtime.survey import Survey


def tell(report: Survey, stream: TextIO, *, verbose: int = 0) -> None:
    """Print a survey, a line a provider."""
    built_for = f", built for CUDA {report.cuda}" if report.cuda else ""
    with printing(stream) as console:
        console.print(escape(f"{report.runs} {report.version}{built_for}"))
        table = new_table("", "", "")
        table.show_header = False
        for status in report.providers:
            word = "yes" if status.usable else "no"
            told = "\n".join(filter(None, (status.device or status.why, status.tip)))
            table.add_row(short_name(status.name), word, escape(told))
        console.print(table)
        console.print(f"auto selects {short_name(report.auto)}")
        if report.conflict:
            for told in ("message", "tip"):
                console.print(escape(report.conflict[told]))

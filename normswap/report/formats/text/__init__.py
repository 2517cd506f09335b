"""Reports for people: what was done, what was not and why, and the check's figures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, TextIO

from rich.markup import escape

from normswap.plain import kind_of
from normswap.report.formats.text.console import printing
from normswap.report.next import tips

if TYPE_CHECKING:
    from normswap.report.envelope import Envelope, Report

MODULES = {
    "check": "check",
    "swap": "swap",
    "fold": "rewrites",
    "unfold": "rewrites",
    "recalibrate": "rewrites",
}
"""By the kinds of reports, the modules whose function of this name prints them; else ``others``."""


def tell(
    report: Report, stream: TextIO, *, verbose: int = 0, envelope: Envelope | None = None
) -> None:
    """Print a report, and what would be next; from `verbose` 1 on all of it, one by one."""
    kind = kind_of(report)
    module = importlib.import_module(f"{__name__}.{MODULES.get(kind, 'others')}")
    with printing(stream) as console:
        getattr(module, kind)(report, console, verbose)
        for sentence in tips(report, envelope) if verbose >= 0 else ():
            console.print(f"[cyan]tip:[/] {escape(sentence)}")

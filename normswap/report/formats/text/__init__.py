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


def tell(
    report: Report, stream: TextIO, *, verbose: int = 0, envelope: Envelope | None = None
) -> None:
    """Print a report, for which there is a module of each kind, and what would be next."""
    importlib.import_module(f"{__name__}.{kind_of(report)}").tell(report, stream, verbose=verbose)
    found = tips(report, envelope) if verbose >= 0 else ()
    if found:
        with printing(stream) as console:
            for sentence in found:
                console.print(f"[cyan]tip:[/] {escape(sentence)}")

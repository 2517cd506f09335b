"""Reports for people: what was done, what was not and why, and the check's figures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, TextIO

from normswap.plain import kind_of

if TYPE_CHECKING:
    from normswap.report.envelope import Envelope, Report


def tell(
    report: Report, stream: TextIO, *, verbose: int = 0, envelope: Envelope | None = None
) -> None:
    """Print a report: there is a module for each kind."""
    del envelope  # the person knows what was typed
    importlib.import_module(f"{__name__}.{kind_of(report)}").tell(report, stream, verbose=verbose)

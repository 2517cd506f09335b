"""Reports for GitHub Actions: an annotation for each finding, and the report as the step's summary.

Annotations are workflow commands on standard output or in a file; the summary is appended to the
file that ``GITHUB_STEP_SUMMARY`` names, where it does.

Source: GitHub Docs, "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from normswap.report.formats import markdown
from normswap.report.results import ReportItem, from_checkout, results_of

if TYPE_CHECKING:
    from normswap.report.envelope import Envelope, Report

COMMANDS = {"note": "notice", "warning": "warning", "error": "error", "failure": "error"}

GRAVEST = ("failure", "error", "warning", "note")
"""GitHub shows the first ten of a kind in a step."""

SUMMARY = 1 << 20
"""Bytes that GitHub takes for the summary of a step."""


def tell(
    report: Report, stream: TextIO, *, verbose: int = 0, envelope: Envelope | None = None
) -> None:
    """Write annotations; from `verbose` 1 on one for each note too, as on a node that stays."""
    found = [result for result in results_of(report, envelope) if result.level != "pass"]
    for result in sorted(found, key=lambda result: GRAVEST.index(result.level)):
        if verbose > 0 or result.is_finding:
            stream.write(_annotation(result))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        told = io.StringIO()
        markdown.tell(report, told, envelope=envelope)
        data = (told.getvalue() + "\n").encode("utf-8", errors="replace")
        with Path(summary).open("ab") as file:  # one write: several steps may append
            file.write(data[: max(SUMMARY - file.tell(), 0)])


def _annotation(result: ReportItem) -> str:
    told = result.title.startswith(result.code)
    what = result.title if told else f"{result.code} {result.title}".strip()
    properties = {"file": from_checkout(result.model), "title": f"normswap: {what}"}
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items() if value)
    where = f"{result.place}: " if result.place else ""
    tip = f"\n{result.help}" if result.help else ""
    return f"::{COMMANDS[result.level]} {listed}::{_data(where + result.message + tip)}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

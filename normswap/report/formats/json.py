"""Reports for programs: one JSON object, of the schema that it names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

from normswap.plain import kind_of, plain
from normswap.report.envelope import around
from normswap.report.next import tips

if TYPE_CHECKING:
    from normswap.report.envelope import Envelope, Report


def tell(
    report: Report, stream: TextIO, *, verbose: int = 0, envelope: Envelope | None = None
) -> None:
    """Write a report, with its envelope, as one JSON object; all of it, however verbose."""
    json.dump(whole(report, envelope), stream, indent=2, ensure_ascii=False, allow_nan=False)
    stream.write("\n")


def whole(report: Report, envelope: Envelope | None = None) -> dict[str, Any]:
    """Return a report with its envelope as plain data."""
    data = report.to_dict()
    around_it = envelope or around(kind_of(report), int(report.exit_code))
    # A failure brings its error along; for the rest, what the envelope says stands.
    whole = {"schema": report.SCHEMA, **plain(around_it), **data, "exit_code": around_it.exit_code}
    return {**whole, "tips": list(tips(report, envelope))}

"""Reports for programs that read on while they come: JSON Lines, a line a model.

A line is what `json` tells of that model, without line breaks in it; where a command has worked on
one model that is all of its report.

Source: https://jsonlines.org
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

from normswap.report.formats.json import whole

if TYPE_CHECKING:
    from normswap.fleet.work import FleetReport
    from normswap.report.envelope import Envelope, Report


def tell(
    report: Report | FleetReport,
    stream: TextIO,
    *,
    verbose: int = 0,
    envelope: Envelope | None = None,
) -> None:
    """Write a line a model; all of its report, however verbose."""
    if report.SCHEMA == "normswap/fleet/1":
        lines = [model["report"] for model in report.to_dict()["models"]]
    else:
        lines = [whole(report, envelope)]
    stream.writelines(
        json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines
    )

"""Reports for programs: one JSON object."""

from __future__ import annotations

import json
import math
from typing import Any, Protocol


class Reportable(Protocol):
    """A report that can be told as plain data."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        ...


def render_json(report: Reportable) -> str:
    """Return a report as one JSON object; numbers that JSON lacks become strings."""
    return json.dumps(_finite(report.to_dict()), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value

"""A model without a BatchNormalization may have had some before its exporter folded them."""

from __future__ import annotations

from typing import Any

from normswap.graph.batchnorm import EXPORT_TIP
from normswap.plain import kind_of


def tip(report: Any, model: str) -> str | None:
    """Say how to export with them, where a layer may have had one.

    A fold whose model looks folded already has what it wants.
    """
    outlook = report.outlook
    if not outlook.may_have_had or (outlook.traces and kind_of(report) == "fold"):
        return None
    return EXPORT_TIP

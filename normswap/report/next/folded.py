"""A model whose exporter has folded everything says so by names, and has nothing left to fold."""

from __future__ import annotations

from typing import Any

from normswap.plain import kind_of


def tip(report: Any, model: str) -> str | None:
    """Say so; to a swap also how there is something to swap again."""
    traces = report.outlook.traces
    if not traces:
        return None
    if kind_of(report) == "fold":
        return f"the model looks folded already, so nothing is left to do: {traces[0]}"
    groups = f"{report.plan.options.policy.as_option} --on-indivisible gcd"
    return (
        f"the model looks folded already: {traces[0]}; `normswap bn-to-gn {groups} "
        f"--unfold --calibrate DATA {model}` first puts the BatchNormalizations back, "
        "with statistics from DATA, which are some inputs of the model"
    )

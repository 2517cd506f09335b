"""Layers whose channels the groups don't divide are swapped with ``--on-indivisible gcd``."""

from __future__ import annotations

from typing import Any

from normswap.graph.reasons import Reason


def tip(report: Any, model: str) -> str | None:
    """Say so where ``--on-indivisible keep`` has left some."""
    count = sum(entry.reason is Reason.INDIVISIBLE for entry in report.plan.untouched)
    if not count:
        return None
    policy = report.plan.options.policy
    whose = "its" if count == 1 else "their"
    return (
        f"{count} kept because {policy} don't divide {whose} channels: `normswap bn-to-gn "
        f"{policy.as_option} --on-indivisible gcd {model}` uses the greatest common "
        "divisor instead"
    )

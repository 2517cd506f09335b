"""What came of a model, in the few words that stand in its line among many."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from normswap.plain import kind_of
from normswap.report.standing import gated, standing
from normswap.report.words import normalizations

if TYPE_CHECKING:
    from collections.abc import Callable

    from normswap.report.envelope import Report


SHOWN = 3
"""Reasons to keep a normalization that are named."""


def headline(report: Report) -> str:
    """Return what a report comes to, on one line."""
    told = _KINDS[kind_of(report)](report)
    return " ".join(told.split())


def _fold(report: Any) -> str:
    kept = report.plan.kept
    why = Counter(entry.reason.value for entry in kept).most_common()
    listed = ", ".join(f"{count} {reason}" for reason, count in why[:SHOWN]) + ", ..." * (
        len(why) > SHOWN
    )
    done = f"{len(report.plan.folded)} folded, {len(kept)} kept"
    return _rewrite(report, done + (f" ({listed})" if kept else ""))


def _swap(report: Any) -> str:
    plan = report.plan
    return _rewrite(report, f"{len(plan.swaps)} swapped, {len(plan.untouched)} kept")


def _rewrite(report: Any, done: str) -> str:
    verdict = "" if report.check is None else f"; {report.check.verdict.value}"
    verdict += "" if report.check is None else standing(report.check)
    failing = gated(report)
    return f"{done}{verdict}" + (f"; {failing}" if failing else "")


def _check(report: Any) -> str:
    said = f"{report.verdict.value}{standing(report)}"
    why = report.shortfall or next(iter(report.reasons), "")
    return f"{said}: {why}" if why and report.exit_code else said


def _lint(report: Any) -> str:
    counts = Counter(f"{finding.code} {finding.name}" for finding in report.findings)
    listed = ", ".join(f"{count} {rule}" for rule, count in counts.items())
    fixed = sum(model.fixed for model in report.models)
    return (listed or "no findings") + (f"; {fixed} fixed" if fixed else "")


def _inspect(report: Any) -> str:
    return f"{report.parameters:,} parameters, {normalizations(report)}"


def _error(report: Any) -> str:
    return str(report.error.message)


def _explain(report: Any) -> str:
    return f"{report.name}: {len(report.folded)} folded, {len(report.kept)} kept"


_KINDS: dict[str, Callable[[Any], str]] = {
    "fold": _fold,
    "explain": _explain,
    "swap": _swap,
    "check": _check,
    "lint": _lint,
    "inspect": _inspect,
    "error": _error,
}

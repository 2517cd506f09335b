"""What a lint came to, in words that every format uses."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normswap.workflows.lint import LintReport


def summary(report: LintReport) -> str:
    """Say how much was found in how many models, and what of it a fix removes."""
    looked = [model for model in report.models if not model.error]
    counts = Counter(finding.level for finding in report.findings)
    parts = (_counted(counts[level], level) for level in ("error", "warning", "note"))
    listed = ", ".join(filter(None, parts))
    among = _counted(len(looked), "model")
    said = f"{listed} in {among}" if counts else f"no findings in {among or 'any model'}"
    fixed = sum(model.fixed for model in report.models)
    said += f"; {fixed} fixed" if fixed else ""
    said += f"; {report.fixable} fixable with --fix" if report.fixable else ""
    failed = len(report.models) - len(looked)
    return said + (f"; {_counted(failed, 'model')} could not be read" if failed else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}" if count else ""

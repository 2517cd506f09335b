"""What a report shows, laid out in blocks: HTML and Markdown are two ways to write a page down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normswap.plain import kind_of
from normswap.report.pages import check, others, rewrites, swap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from normswap.report.pages.page import Page
    from normswap.report.wiring import Wiring

PAGES: dict[str, Callable[[Any, Sequence[Wiring | None]], Page]] = {
    "fold": rewrites.fold,
    "explain": others.explain,
    "swap": swap.page,
    "recalibrate": rewrites.recalibrate,
    "unfold": rewrites.unfold,
    "check": check.page,
    "verify": others.verify,
    "inspect": others.inspect,
    "lint": others.lint,
    "diff": others.diff,
    "rules": others.rules,
    "providers": others.providers,
    "fleet": others.fleet,
    "error": others.error,
}
"""By the kinds of reports."""


def page_of(report: Any, wirings: Sequence[Wiring | None] = ()) -> Page:
    """Return the page of a report.

    Parameters
    ----------
    wirings : sequence of (Wiring or None)
        Of the model before and after, for pictures; there are none without.
    """
    return PAGES[kind_of(report)](report, wirings)

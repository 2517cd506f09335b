"""Why one normalization was folded or kept: every route that was tried, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.markup import escape

from normswap.report.formats.text.console import printing
from normswap.report.formats.text.fold import ARROW

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from normswap.folding.plan import Folded, Kept, Step
    from normswap.report.explanation import Explanation


def tell(report: Explanation, stream: TextIO, *, verbose: int = 0) -> None:
    """Print entries of a plan, all of every one."""
    with printing(stream) as console:
        for number, lines in enumerate([*map(_folded, report.folded), *map(_kept, report.kept)]):
            if number:
                console.print()
            for line in lines:
                console.print(escape(line))


def _title(entry: Folded | Kept) -> str:
    site = entry.site
    where = f" in {site.graph}" if site.graph else ""
    channels = f", {site.channels} channels" if site.channels else ""
    return f"{site.op} {site.node}{where}, output {site.output}{channels}"


def _folded(entry: Folded) -> Iterator[str]:
    yield _title(entry)
    nodes = f", with {entry.added_nodes} added nodes" if entry.added_nodes else ""
    yield f"folded{nodes}:"
    yield from _steps(entry.route)
    if not entry.route:
        yield "  the node changes nothing"


def _kept(entry: Kept) -> Iterator[str]:
    yield _title(entry)
    yield f"kept, {entry.reason.value}: {entry.reason.explanation}"
    if not entry.attempts:
        yield f"  {entry.detail}"
    for attempt in entry.attempts:
        yield f"tried {attempt.direction}:"
        yield from _steps(attempt.trail)
        yield f"  ✗ {attempt.reason.value}: {attempt.detail}"


def _steps(steps: Iterable[Step]) -> Iterator[str]:
    for step in steps:
        verb = "carries" if step.action == "carry" else "absorbs"
        note = f": {step.note}" if step.note else ""
        what = f"{verb} scale and shift at {step.tensor}"
        yield f"  {ARROW[step.direction]} {step.op} {step.node} {what}{note}"

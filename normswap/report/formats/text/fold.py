"""What was folded into what, what was kept and why, and the check's figures."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TextIO

from rich.filesize import decimal
from rich.markup import escape

from normswap.findings import place_of
from normswap.report.formats.text.console import new_table, print_check, printing
from normswap.report.formats.text.listing import LISTS
from normswap.report.standing import gated, written

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console
    from rich.table import Table

    from normswap.folding.plan import Folded, Kept, Merged, Plan, Step
    from normswap.graph.reasons import Reason
    from normswap.workflows.fold import FoldReport

SHOWN = 12
"""Kept nodes that are listed one by one without being asked."""

ARROW = {"up": "↑", "down": "↓", "beside": "→"}

FORM = {"affine": "as Mul and Add", "normalize": "with mean 0 and var 1"}


def tell(report: FoldReport, stream: TextIO, *, verbose: int = 0) -> None:
    """Print what a fold did, or would do.

    Parameters
    ----------
    verbose : int
        From 1 on every node and its route is listed, not only a summary.
    """
    verbose = max(verbose, 0)
    with printing(stream) as console:
        plan = report.plan
        console.print(f"[bold]{escape(report.source)}[/]  {_headline(plan)}")
        if plan.folded:
            console.print()
            console.print(_routes(plan.folded) if verbose else _summary(plan.folded))
        if plan.kept:
            console.print()
            console.print(_kept(plan.kept, verbose=verbose))
        if plan.merged:
            console.print()
            console.print(_merged(plan.merged, verbose=verbose))
        console.print()
        if plan.copied and plan.added_bytes > 0:
            console.print(_growth(plan))
        _check(report, console, verbose=verbose)
        if report.failing:
            console.print(f"[red]{gated(report)}[/]")
        console.print(escape(written(report)))


def _headline(plan: Plan) -> str:
    total = len(plan.folded) + len(plan.kept)
    if not total:
        return "no BatchNormalization found"
    kept = f", [yellow]{len(plan.kept)} kept[/]" if plan.kept else ""
    ops = {entry.site.op for entry in plan.folded} | {entry.site.op for entry in plan.kept}
    what = "BatchNormalization" if ops == {"BatchNormalization"} else "normalizations"
    return f"{total} {what}: [green]{len(plan.folded)} folded[/]{kept}"


def _way(route: Iterable[Step]) -> str:
    """Say along which operators an affine travels, such as ``↑ Add ↑ Conv``."""
    return " ".join(f"{ARROW[step.direction]} {step.op}" for step in route) or "nothing to do"


def _summary(folded: Iterable[Folded]) -> Table:
    table = new_table("folded", "along")
    table.columns[0].justify = "right"
    ways = Counter(_way(entry.route) for entry in folded)
    for way, count in ways.most_common(12):
        table.add_row(str(count), way)
    rest = ways.most_common()[12:]
    if rest:
        table.add_row(
            str(sum(count for _, count in rest)), f"{len(rest)} other ways (-v lists all)"
        )
    return table


def _routes(folded: Iterable[Folded]) -> Table:
    table = new_table("folded", "channels", "into", "along")
    for entry in folded:
        absorbers = ", ".join(escape(f"{step.op} {step.node}") for step in entry.absorbers)
        table.add_row(
            escape(place_of(entry.site)),
            str(entry.site.channels or "?"),
            absorbers or "-",
            _way(entry.route),
        )
    return table


def _kept(kept: Iterable[Kept], *, verbose: int) -> Table:
    table = new_table("kept", "reason", "because")
    entries = list(kept)
    by_reason: dict[Reason, list[Kept]] = {}
    for entry in entries:
        by_reason.setdefault(entry.reason, []).append(entry)
    for reason, group in by_reason.items():
        shown = group if verbose or len(entries) <= SHOWN else group[:1]
        for entry in shown:
            because = entry.detail or reason.explanation
            if entry.form != "keep":
                because += f" (now {FORM[entry.form]})"
            for attempt in entry.attempts[1:] if verbose else ():
                because += f"\n{attempt.direction}: {attempt.detail} ({attempt.reason.value})"
            where = place_of(entry.site)
            table.add_row(escape(where), f"[yellow]{reason.value}[/]", escape(because))
        if len(shown) < len(group):
            table.add_row(f"and {len(group) - 1} more", f"[yellow]{reason.value}[/]", LISTS)
    return table


def _merged(merged: Iterable[Merged], *, verbose: int) -> Table:
    table = new_table("merged", "into", "branches")
    entries = list(merged)
    shown = entries if verbose or len(entries) <= SHOWN else entries[:1]
    for entry in shown:
        into = f"Conv {place_of(entry)}"
        names = ", ".join(entry.branches)
        table.add_row(str(len(entry.branches)), escape(into), escape(names))
    if len(shown) < len(entries):
        rest = entries[len(shown) :]
        count = sum(len(entry.branches) for entry in rest)
        table.add_row(str(count), f"{len(rest)} other Convs", LISTS)
    return table


def _growth(plan: Plan) -> str:
    """Say what the file has more, and why."""
    parts = [f"{escape(c.tensor)} becomes {c.copies} constants" for c in plan.copied[:3]]
    if len(plan.copied) > 3:
        parts.append(f"{len(plan.copied) - 3} more are copied")
    return (
        f"[yellow]constants grow by {decimal(plan.added_bytes)}[/], because some are read "
        f"by several nodes and each node needs its own copy: {', '.join(parts)} (to keep "
        "such nodes unfolded, use --max-growth)"
    )


def _check(report: FoldReport, console: Console, *, verbose: int) -> None:
    check = report.check
    if check is None:
        if report.output and report.plan.edits:
            console.print("[dim]not checked (--no-check)[/]")
        return
    print_check(check, console, finding=check.verdict.value, verbose=verbose)
    _residuals(report, console)
    for sentence in (*check.reasons, *check.notes):
        console.print(f"  {escape(sentence)}")


def _residuals(report: FoldReport, console: Console) -> None:
    off = [residual for residual in report.residuals if not residual.is_rounding]
    if report.residuals and not off:
        largest = max(residual.ulps for residual in report.residuals)
        console.print(f"  constants deviate from the formula by at most {largest:.2f} ulp")
    for residual in off:
        console.print(
            f"  [red]{escape(residual.tensor)}[/] deviates from its formula by "
            f"{residual.ulps:.3g} ulp, and rounding explains at most {residual.allowed:g}"
        )

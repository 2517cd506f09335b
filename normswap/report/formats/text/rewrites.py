"""What fold, unfold and recalibrate did."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.markup import escape

from normswap.findings import place_of
from normswap.report.formats.text.console import (
    ARROW,
    SHOWN,
    UNCHECKED,
    kept_table,
    print_check,
    print_notes,
    print_written,
)
from normswap.report.formats.text.listing import LISTS, Listing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console
    from rich.table import Table

    from normswap.folding.plan import Folded, Kept, Merged, Plan, Step
    from normswap.graph.reasons import Reason
    from normswap.unfolding.plan import LeftOut, UnfoldPlace
    from normswap.workflows.fold import FoldReport
    from normswap.workflows.recalibrate import RecalibrateReport
    from normswap.workflows.unfold import UnfoldReport

KEPT = 12
"""Nodes that a fold keeps that are listed one by one without being asked."""

FORM = {"affine": "as Mul and Add", "normalize": "with mean 0 and var 1"}


def fold(report: FoldReport, console: Console, verbose: int) -> None:
    """Print what was folded into what, and what was kept and why."""
    plan = report.plan
    console.print(f"[bold]{escape(report.source)}[/]  {_headline(plan)}")
    if plan.folded:
        console.print()
        console.print(_routes(plan.folded) if verbose > 0 else _summary(plan.folded))
    if plan.kept:
        console.print()
        console.print(_kept(plan.kept, verbose > 0))
    if plan.merged:
        console.print()
        console.print(_merged(plan.merged, verbose > 0))
    console.print()
    if plan.copied and plan.added_bytes > 0:
        console.print(_growth(plan))
    if report.check is not None:
        print_check(report.check, console, report.check.verdict.value, verbose)
        _residuals(report, console)
    elif report.output and plan.edits:
        console.print(UNCHECKED)
    print_written(report, console)


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
    table = Listing("folded", "along")
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
    table = Listing("folded", "channels", "into", "along")
    for entry in folded:
        absorbers = ", ".join(escape(f"{step.op} {step.node}") for step in entry.absorbers)
        table.add_row(
            escape(place_of(entry.site)),
            str(entry.site.channels or "?"),
            absorbers or "-",
            _way(entry.route),
        )
    return table


def _kept(kept: Iterable[Kept], every: bool) -> Table:
    table = Listing("kept", "reason", "because")
    entries = list(kept)
    by_reason: dict[Reason, list[Kept]] = {}
    for entry in entries:
        by_reason.setdefault(entry.reason, []).append(entry)
    for reason, group in by_reason.items():
        shown = group if every or len(entries) <= KEPT else group[:1]
        for entry in shown:
            because = entry.detail or reason.explanation
            if entry.form != "keep":
                because += f" (now {FORM[entry.form]})"
            for attempt in entry.attempts[1:] if every else ():
                because += f"\n{attempt.direction}: {attempt.detail} ({attempt.reason.value})"
            where = place_of(entry.site)
            table.add_row(escape(where), f"[yellow]{reason.value}[/]", escape(because))
        if len(shown) < len(group):
            table.add_row(f"and {len(group) - 1} more", f"[yellow]{reason.value}[/]", LISTS)
    return table


def _merged(merged: Iterable[Merged], every: bool) -> Table:
    table = Listing("merged", "into", "branches")
    entries = list(merged)
    shown = entries if every or len(entries) <= KEPT else entries[:1]
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


def unfold(report: UnfoldReport, console: Console, verbose: int) -> None:
    """Print where BatchNormalizations were put, and where not and why."""
    plan = report.plan
    line = f"{len(plan.places)} BatchNormalization put back after linear layers"
    if report.samples:
        line += f", with the statistics of {report.samples} samples"
    if plan.present:
        line += f", {plan.present} already present"
    if plan.left_out:
        count = len(plan.left_out)
        line += f", [yellow]{count} layer{'s' * (count > 1)} left without[/]"
    most = None if verbose > 0 else SHOWN
    console.print(f"[bold]{escape(report.source)}[/]  {line}")
    if plan.places:
        console.print()
        table = Listing("after", "channels", "output", "dead channels")
        rows = [
            (_layer(p), str(p.channels), escape(p.output), str(p.dead or "")) for p in plan.places
        ]
        table.add_rows(rows, most, at=2)
        console.print(table)
    if plan.left_out:
        console.print()
        table = Listing("without", "reason", "because")
        left = [
            (_layer(p), f"[yellow]{p.reason.value}[/]", escape(p.detail)) for p in plan.left_out
        ]
        table.add_rows(left, most, at=2)
        console.print(table)
    print_notes(report.notes, console)
    console.print()
    if report.check is not None:
        print_check(report.check, console, report.check.verdict.value, verbose)
    elif report.output and plan.places:
        console.print(UNCHECKED)
    print_written(report, console)


def _layer(place: UnfoldPlace | LeftOut) -> str:
    return escape(f"{place.op} {place_of(place)}")


def recalibrate(report: RecalibrateReport, console: Console, verbose: int) -> None:
    """Print how far the statistics of layers have moved."""
    frozen = sum(layer.frozen for layer in report.layers)
    turned = f"{frozen} switched from training to inference mode"
    line = f"{len(report.layers)} BatchNormalization recalibrated on {report.samples} samples"
    if not report.samples:
        line = "no BatchNormalization in training mode"
        if frozen:
            line = f"{turned}, keeping the statistics in the model"
    elif frozen:
        line += f", {turned}"
    if report.untouched:
        line += f", [yellow]{len(report.untouched)} kept[/]"
    measures = ("change of means", "variances multiplied by") if report.samples else ()
    table = Listing("recalibrated" if measures else "switched", "channels", *measures)
    rows = []
    for layer in report.layers:
        moved = _known(layer.mean_shift, " std"), _known(layer.variance_ratio)
        nodes = (place_of(site) for site in (layer.site, *layer.shared))
        cells = (escape(" = ".join(nodes)), str(layer.site.channels or "?"))
        rows.append((*cells, *moved) if measures else cells)
    table.add_rows(rows, None if verbose > 0 else SHOWN)
    console.print(f"[bold]{escape(report.source)}[/]  {line}")
    if report.layers:
        console.print()
        console.print(table)
    if report.untouched:
        console.print()
        console.print(kept_table(report.untouched, verbose))
    for layer in report.layers:
        for mended in layer.mended:
            console.print(f"  replaced: {escape(mended)}")
    print_notes(report.notes, console)
    console.print()
    print_written(report, console)


def _known(figure: float, unit: str = "") -> str:
    return "unknown" if math.isnan(figure) else f"{figure:.3f}{unit}"

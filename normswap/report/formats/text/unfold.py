"""Where unfold put BatchNormalizations, and where not and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.markup import escape

from normswap.findings import place_of
from normswap.report.formats.text.console import (
    SHOWN,
    new_table,
    print_check,
    print_notes,
    printing,
)
from normswap.report.standing import written

if TYPE_CHECKING:
    from normswap.unfolding.plan import LeftOut, UnfoldPlace
    from normswap.workflows.unfold import UnfoldReport


def tell(report: UnfoldReport, stream: TextIO, *, verbose: int = 0) -> None:
    """Print what an unfold did, or would do; from `verbose` 1 on every layer is listed."""
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
    with printing(stream) as console:
        console.print(f"[bold]{escape(report.source)}[/]  {line}")
        if plan.places:
            console.print()
            table = new_table("after", "channels", "output", "dead channels")
            rows = [
                (_layer(p), str(p.channels), escape(p.output), str(p.dead or ""))
                for p in plan.places
            ]
            table.add_rows(rows, most, at=2)
            console.print(table)
        if plan.left_out:
            console.print()
            table = new_table("without", "reason", "because")
            left = [
                (_layer(p), f"[yellow]{p.reason.value}[/]", escape(p.detail)) for p in plan.left_out
            ]
            table.add_rows(left, most, at=2)
            console.print(table)
        print_notes(report.notes, console)
        console.print()
        if report.check is not None:
            verdict = report.check.verdict.value
            print_check(report.check, console, finding=verdict, verbose=verbose)
            for sentence in (*report.check.reasons, *report.check.notes):
                console.print(f"  {escape(sentence)}")
        elif report.output and plan.places:
            console.print("[dim]not checked (--no-check)[/]")
        console.print(escape(written(report)))


def _layer(place: UnfoldPlace | LeftOut) -> str:
    return escape(f"{place.op} {place_of(place)}")

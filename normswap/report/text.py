"""Reports for people: what was folded into what, what was kept and why, and the check's figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

if TYPE_CHECKING:
    from normswap.pipeline import FoldReport
    from normswap.plan import Folded, Kept, Plan, Step

ARROW = {"up": "↑", "down": "↓"}


def console_for(stream: TextIO) -> Console:
    """Return a console: colour on a terminal only, and lines of any length into a pipe."""
    console = Console(file=stream, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = 160
    return console


def render_fold(report: FoldReport, console: Console, *, verbose: int = 0) -> None:
    """Print what a fold did, or would do.

    Parameters
    ----------
    report : FoldReport
    console : rich.console.Console
    verbose : int
        From 1 on every folded node and its route is listed, not only a summary.
    """
    plan = report.plan
    total = len(plan.folded) + len(plan.kept)
    console.print(f"[bold]{escape(report.source)}[/]  {_headline(plan, total)}")
    if plan.folded:
        console.print(Padding(_routes(plan.folded) if verbose else _summary(plan.folded), (1, 0, 0, 2)))
    if plan.kept:
        console.print(Padding(_kept(plan.kept, verbose=verbose), (1, 0, 0, 2)))
    console.print()
    _check(report, console)
    _sizes(report, console)


def _headline(plan: Plan, total: int) -> str:
    if not total:
        return (
            "no BatchNormalization found. Exporters fold them by themselves; "
            "with torch.onnx.export, training=TrainingMode.PRESERVE keeps them."
        )
    kept = f", [yellow]{len(plan.kept)} kept[/]" if plan.kept else ""
    return f"{total} BatchNormalization: [green]{len(plan.folded)} folded[/]{kept}"


def _way(route: Iterable[Step]) -> str:
    """Say along which operators an affine travels, such as ``↑ Add ↑ Conv``."""
    return " ".join(f"{ARROW[step.direction]} {step.op}" for step in route) or "nothing to do"


def _summary(folded: Iterable[Folded]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("folded", justify="right")
    table.add_column("along")
    ways = Counter(_way(entry.route) for entry in folded)
    for way, count in ways.most_common(12):
        table.add_row(str(count), way)
    rest = ways.most_common()[12:]
    if rest:
        table.add_row(str(sum(count for _, count in rest)), f"{len(rest)} other ways (-v lists all)")
    return table


def _routes(folded: Iterable[Folded]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("folded", "channels", "into", "along"):
        table.add_column(column, overflow="fold")
    for entry in folded:
        absorbers = ", ".join(escape(f"{step.op} {step.node}") for step in entry.absorbers)
        table.add_row(
            escape(_where(entry.site.graph, entry.site.node)),
            str(entry.site.channels or "?"),
            absorbers or "-",
            _way(entry.route),
        )
    return table


def _kept(kept: Iterable[Kept], *, verbose: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("kept", "reason", "because"):
        table.add_column(column, overflow="fold")
    entries = list(kept)
    shown = entries if verbose or len(entries) <= 20 else entries[:20]
    for entry in shown:
        because = entry.detail or entry.reason.explanation
        for attempt in entry.attempts[1:] if verbose else ():
            because += f"\n{attempt.direction}: {attempt.detail} ({attempt.reason.value})"
        table.add_row(
            escape(_where(entry.site.graph, entry.site.node)),
            f"[yellow]{entry.reason.value}[/]",
            escape(because),
        )
    if len(shown) < len(entries):
        more = Counter(entry.reason.value for entry in entries[len(shown) :])
        listed = ", ".join(f"{count} {reason}" for reason, count in more.most_common())
        table.add_row(f"and {len(entries) - len(shown)} more", "", f"{listed} (-v lists all)")
    return table


def _where(graph: str, node: str) -> str:
    return f"{graph}/{node}" if graph else node


def _check(report: FoldReport, console: Console) -> None:
    if report.check is None:
        if report.output:
            console.print("not checked (--no-check)")
        return
    colour = {0: "green", 1: "red"}.get(int(report.exit_code), "yellow")
    for line in report.check.lines():
        console.print(f"[{colour}]{escape(line)}[/]")


def _sizes(report: FoldReport, console: Console) -> None:
    before = _bytes(report.size_before)
    if not report.output:
        console.print(f"nothing written ({before})")
        return
    console.print(f"{escape(report.output)}  {before} → {_bytes(report.size_after)}")


def _bytes(size: int) -> str:
    value, unit = float(size), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"

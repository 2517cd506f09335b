"""Reports for people of what bn-to-gn and recalibrate did."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from normswap.errors import ExitCode
from normswap.report.text import WIDEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from normswap.groupnorm.drift import Drift
    from normswap.groupnorm.plan import SwapPlan
    from normswap.groupnorm.recalibrate import RecalibrateReport
    from normswap.groupnorm.story import SwapReport
    from normswap.groupnorm.verify import SwapCheck

SHOWN = 8
"""Layers that are listed one by one without being asked."""

NO_BATCHNORM = (
    "no BatchNormalization found: the exporter has folded them into the convolutions before, and "
    "they can't be told apart any more. Export again with them intact: torch.onnx.export(..., "
    "dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)."
)


def render_swap(report: SwapReport, stream: TextIO, *, verbose: int = 0) -> None:
    """Print what a swap did, or would do.

    Parameters
    ----------
    report : SwapReport
    stream : text stream
        Gets colours only if it is a terminal.
    verbose : int
        From 1 on every layer is listed.
    """
    _print(stream, lambda console: _swap(report, console, verbose=verbose))


def render_recalibrate(report: RecalibrateReport, stream: TextIO, *, verbose: int = 0) -> None:
    """Print what a recalibration did."""
    _print(stream, lambda console: _recalibrate(report, console, verbose=verbose))


def _print(stream: TextIO, tell: Callable[[Console], None]) -> None:
    console = Console(file=stream, highlight=False)
    if not console.is_terminal:
        console.width = WIDEST
    with console.capture() as capture:
        tell(console)
    stream.writelines(line.rstrip() + "\n" for line in capture.get().splitlines())


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _swap(report: SwapReport, console: Console, *, verbose: int) -> None:
    plan = report.plan
    console.print(f"[bold]{escape(report.source)}[/]  {_headline(plan)}")
    if plan.swaps:
        console.print()
        console.print(_layers(report) if verbose else _forms(plan))
    if plan.untouched:
        console.print()
        table = _table("kept", "because")
        entries = plan.untouched if verbose else plan.untouched[:SHOWN]
        for entry in entries:
            table.add_row(escape(_where(entry.site.graph, entry.site.node)), escape(entry.why))
        if len(entries) < plan.total - len(plan.swaps):
            table.add_row(f"and {len(plan.untouched) - len(entries)} more", "-v lists all")
        console.print(table)
    console.print()
    if report.check is not None:
        _check(report.check, console)
        _drift(report, console)
    elif report.output and plan.swaps:
        console.print("[dim]not checked (--no-check)[/]")
    _sizes(report.output, report.size_before, report.size_after, console)


def _headline(plan: SwapPlan) -> str:
    if not plan.total:
        return NO_BATCHNORM
    kept = f", [yellow]{len(plan.untouched)} kept[/]" if plan.untouched else ""
    return f"{plan.total} BatchNormalization: [green]{len(plan.swaps)} swapped[/]{kept}"


def _forms(plan: SwapPlan) -> Table:
    table = _table("swapped", "groups", "form", "because")
    kinds = Counter((swap.num_groups, swap.form, swap.why) for swap in plan.swaps)
    for (groups, form, why), count in kinds.most_common():
        table.add_row(str(count), str(groups), form, escape(why))
    return table


def _layers(report: SwapReport) -> Table:
    plan, check = report.plan, report.check
    errors = {entry.layer: entry for entry in check.layers} if check else {}
    before = report.uncalibrated.layers if report.uncalibrated else {}
    after = check.drift.layers if check else {}
    table = _table("swapped", "channels", "groups", "form", "max error", "drift (SNR)")
    outputs = [layer.y.name for layer in plan.layers]
    for swap, output in zip(plan.swaps, outputs, strict=True):
        where = _where(swap.site.graph, swap.site.node)
        error, drift = errors.get(where), after.get(output)
        old = before.get(output)
        told = "" if drift is None else f"{drift.snr:.1f} dB"
        if old is not None and drift is not None:
            told = f"{old.snr:.1f} → {told}"
        table.add_row(
            escape(where),
            str(swap.site.channels or "?"),
            str(swap.num_groups),
            f"{swap.form}+{swap.activation}" if swap.activation else swap.form,
            "" if error is None else f"{error.max_error:.1e}",
            told,
        )
    return table


def _where(graph: str, node: str) -> str:
    return f"{graph}/{node}" if graph else node


def _check(check: SwapCheck, console: Console) -> None:
    colour = {ExitCode.OK: "green", ExitCode.FINDINGS: "red"}.get(check.exit_code, "yellow")
    line = f"[{colour}]{check.verdict.value}[/]"
    if check.layers:
        worst = max(check.layers, key=lambda entry: entry.ratio)
        line += (
            f": {len(check.layers)} nodes against float64, largest error "
            f"{max(entry.max_error for entry in check.layers):.1e}, at most {worst.ratio:.2f} of "
            "what rounding may do"
        )
        if worst.ratio > 1:
            line += f" (in {escape(worst.layer)})"
    console.print(line)
    for output in check.outputs:
        mark = "" if output.right else "[red]wrong:[/] "
        console.print(
            f"  {mark}output {escape(output.output)} within {output.max_error:.1e} of the network "
            f"with float64 normalizations ({output.allowed:.1e} allowed)"
        )
    for output in check.invariance:
        word = "does not depend" if output.right else "[red]depends[/]"
        console.print(
            f"  output {escape(output.output)} of a sample {word} on its batch "
            f"(within {output.max_error:.1e})"
        )
    for note in check.notes:
        console.print(f"  {escape(note)}")


def _drift(report: SwapReport, console: Console) -> None:
    check = report.check
    if check is None or not check.drift.outputs:
        return
    console.print("drift from the original network, which is no error:")
    before = report.uncalibrated.outputs if report.uncalibrated else {}
    for name, drift in check.drift.outputs.items():
        told = _figures(drift)
        if name in before:
            told = f"{_figures(before[name])} → calibrated {told}"
        console.print(f"  {escape(name)}: {told}")


def _figures(drift: Drift) -> str:
    told = f"cosine {drift.cosine:.4f}, SNR {drift.snr:.1f} dB"
    return (
        told
        if drift.top1 is None
        else (f"{told}, same top-1 in {drift.top1:.1%} of {drift.samples} samples")
    )


def _recalibrate(report: RecalibrateReport, console: Console, *, verbose: int) -> None:
    frozen = sum(layer.frozen for layer in report.layers)
    line = f"{len(report.layers)} BatchNormalization recalibrated on {report.samples} samples"
    if frozen:
        line += f", {frozen} turned from training to inference mode"
    console.print(f"[bold]{escape(report.source)}[/]  {line}")
    console.print()
    shown = report.layers if verbose else report.layers[:SHOWN]
    table = _table("recalibrated", "channels", "means moved by", "variances times")
    for layer in shown:
        table.add_row(
            escape(_where(layer.site.graph, layer.site.node)),
            str(layer.site.channels or "?"),
            f"{layer.mean_shift:.3f} std",
            f"{layer.variance_ratio:.3f}",
        )
    if len(shown) < len(report.layers):
        table.add_row(f"and {len(report.layers) - len(shown)} more", "-v lists all")
    console.print(table)
    console.print()
    _sizes(report.output, report.size_before, report.size_after, console)


def _sizes(output: str, before: int, after: int, console: Console) -> None:
    if not output:
        console.print(f"nothing written ({_bytes(before)})")
        return
    console.print(f"{escape(output)}  {_bytes(before)} → {_bytes(after)}")


def _bytes(size: int) -> str:
    value, unit = float(size), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"

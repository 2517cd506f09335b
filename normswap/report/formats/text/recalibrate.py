"""What recalibrate did."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TextIO

from rich.markup import escape

from normswap.report.formats.text.console import new_table, place, printing, sizes

if TYPE_CHECKING:
    from normswap.workflows.recalibrate import RecalibrateReport

SHOWN = 8
"""Layers that are listed one by one without being asked."""


def tell(report: RecalibrateReport, stream: TextIO, *, verbose: int = 0) -> None:
    """Print what a recalibration did; from `verbose` 1 on every layer is listed."""
    frozen = sum(layer.frozen for layer in report.layers)
    line = f"{len(report.layers)} BatchNormalization recalibrated on {report.samples} samples"
    if frozen:
        line += f", {frozen} turned from training to inference mode"
    shown = report.layers if verbose > 0 else report.layers[:SHOWN]
    table = new_table("recalibrated", "channels", "means moved by", "variances times")
    for layer in shown:
        table.add_row(
            escape(place(layer.site.graph, layer.site.node)),
            str(layer.site.channels or "?"),
            _known(layer.mean_shift, " std"),
            _known(layer.variance_ratio),
        )
    if len(shown) < len(report.layers):
        table.add_row(f"and {len(report.layers) - len(shown)} more", "-v lists all")
    with printing(stream) as console:
        console.print(f"[bold]{escape(report.source)}[/]  {line}")
        console.print()
        console.print(table)
        for layer in report.layers:
            for mended in layer.mended:
                console.print(f"  replaced: {escape(mended)}")
        console.print()
        console.print(sizes(report.output, report.size_before, report.size_after))


def _known(figure: float, unit: str = "") -> str:
    return "unknown" if math.isnan(figure) else f"{figure:.3f}{unit}"

"""What recalibrate did."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TextIO

from rich.markup import escape

from normswap.findings import place_of
from normswap.report.formats.text.console import (
    SHOWN,
    kept_table,
    new_table,
    print_notes,
    printing,
    sizes,
)

if TYPE_CHECKING:
    from normswap.workflows.recalibrate import RecalibrateReport

NOTHING = "no BatchNormalization in training mode"


def tell(report: RecalibrateReport, stream: TextIO, *, verbose: int = 0) -> None:
    """Print what a recalibration did; from `verbose` 1 on every layer is listed."""
    frozen = sum(layer.frozen for layer in report.layers)
    turned = f"{frozen} switched from training to inference mode"
    line = f"{len(report.layers)} BatchNormalization recalibrated on {report.samples} samples"
    if not report.samples:
        line = f"{turned}, keeping the statistics in the model" if frozen else NOTHING
    elif frozen:
        line += f", {turned}"
    if report.untouched:
        line += f", [yellow]{len(report.untouched)} kept[/]"
    measures = ("change of means", "variances multiplied by") if report.samples else ()
    table = new_table("recalibrated" if measures else "switched", "channels", *measures)
    rows = []
    for layer in report.layers:
        moved = _known(layer.mean_shift, " std"), _known(layer.variance_ratio)
        nodes = (place_of(site) for site in (layer.site, *layer.shared))
        cells = (escape(" = ".join(nodes)), str(layer.site.channels or "?"))
        rows.append((*cells, *moved) if measures else cells)
    table.add_rows(rows, None if verbose > 0 else SHOWN)
    with printing(stream) as console:
        console.print(f"[bold]{escape(report.source)}[/]  {line}")
        if report.layers:
            console.print()
            console.print(table)
        if report.untouched:
            console.print()
            console.print(kept_table(report.untouched, verbose=verbose))
        for layer in report.layers:
            for mended in layer.mended:
                console.print(f"  replaced: {escape(mended)}")
        print_notes(report.notes, console)
        console.print()
        idle = "" if report.layers else "nothing to freeze"
        console.print(sizes(report.output, report.size_before, report.size_after, idle=idle))


def _known(figure: float, unit: str = "") -> str:
    return "unknown" if math.isnan(figure) else f"{figure:.3f}{unit}"

"""What a model is: its head, its operators, and a table of its normalizations."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.filesize import decimal
from rich.markup import escape

from normswap.findings import place_of
from normswap.report.formats.text.console import new_table, printing
from normswap.report.formats.text.listing import LISTS
from normswap.report.inspected import COLUMNS, fate, macs, normalizations, origin

if TYPE_CHECKING:
    from rich.table import Table

    from normswap.inspection.layers import InspectedLayer
    from normswap.workflows.inspect import InspectReport

SHOWN = 20
"""Normalizations that are listed without being asked."""

PROBLEMS = 8
"""Normalizations whose parameters look wrong that are named without being asked."""

OPERATORS = 8
"""Kinds of operators that are listed without being asked."""


def tell(report: InspectReport, stream: TextIO, *, verbose: int = 0) -> None:
    """Print what a model is; from `verbose` 1 on every operator and normalization is listed."""
    verbose = max(verbose, 0)
    with printing(stream) as console:
        console.print(f"[bold]{escape(report.source)}[/]  {escape(origin(report))}")
        table = new_table("", "")
        table.show_header = False
        table.add_row(
            "size", f"{decimal(report.size)}, {report.parameters:,} parameters, {macs(report.work)}"
        )
        for what, ports in (("inputs", report.graph_inputs), ("outputs", report.graph_outputs)):
            for number, port in enumerate(ports):
                table.add_row("" if number else what, escape(f"{port.name} {port}"))
        table.add_row("operators", escape(_operators(report.operators, verbose=verbose)))
        if report.functions:
            table.add_row("functions", str(report.functions))
        console.print(table)
        console.print()
        console.print(f"{normalizations(report)}")
        if report.layers:
            console.print(_layers(report.layers, verbose=verbose))
        problems = [
            (layer, problem)
            for layer in report.layers
            for problem in (layer.health.problems if layer.health else ())
        ]
        shown = problems if verbose else problems[:PROBLEMS]
        for layer, problem in shown:
            where = escape(place_of(layer))
            console.print(f"  [yellow]{where}[/]: {escape(problem)}")
        if len(shown) < len(problems):
            console.print(f"  and {len(problems) - len(shown)} more ({LISTS})")
        for trace in report.traces:
            lead = "the model looks folded already"
            if not report.looks_folded:
                lead = "the model was folded in part"
            console.print(f"  {lead}: {escape(trace)}")


def _operators(counts: dict[str, int], *, verbose: int) -> str:
    shown = list(counts.items())[: None if verbose else OPERATORS]
    listed = ", ".join(f"{count} {op}" for op, count in shown)
    rest = len(counts) - len(shown)
    return f"{listed}, and {rest} other types (-v lists all)" if rest else listed


def _layers(layers: tuple[InspectedLayer, ...], *, verbose: int) -> Table:
    table = new_table(*COLUMNS)
    rows = []
    for layer in layers:
        *cells, fold = fate(layer)
        colour = {"foldable": "green", "kept": "yellow"}.get(layer.fold)
        told = f"[{colour}]{escape(fold)}[/]" if colour else escape(fold)
        rows.append((*map(escape, cells), told))
    table.add_rows(rows, None if verbose else SHOWN)
    return table

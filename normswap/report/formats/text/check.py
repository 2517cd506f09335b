"""What a check found: a table, what explains it, and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from normswap.report.formats.text.console import WIDEST, print_open, print_regions
from normswap.report.formats.text.listing import UNKNOWN, Listing
from normswap.report.standing import names_of, proof_line, rests_on, standing

if TYPE_CHECKING:
    from rich.console import Console

    from normswap.check.report import CheckReport, OutputReport

STYLES = {"equivalent": "bold green", "different": "bold red", "inconclusive": "yellow"}

SHOWN = 8
"""Reasons, and faults that were missed, that are listed."""

LEAST = 12
"""Columns that the name of an output has at least."""

FIGURES = ("max error", "deployed", "noise", "float64", "allowed")

MIB = 1 << 20

_GRAVEST_FIRST = ("different", "inconclusive", "equivalent")


def check(report: CheckReport, console: Console, verbose: int) -> None:
    """Print what a check found; -1 is the verdict line only.

    From `verbose` 1 on every output on every set of inputs is listed, where it would be one row an
    output.
    """
    if verbose >= 0:
        _findings(report, console, verbose=verbose > 0)
    verdict = report.verdict.value
    console.print(
        Text.assemble((verdict, STYLES[verdict]), f"{standing(report)}: {_sentence(report)}")
    )


def _findings(report: CheckReport, console: Console, *, verbose: bool) -> None:
    if report.outputs:
        _outputs(_rows(report, verbose=verbose), console)
    for reason in report.reasons[:SHOWN]:
        console.print(f"  {escape(reason)}")
    if report.shortfall:
        console.print(f"  [red]{escape(report.shortfall)}[/]")
    _proof(report, console, verbose=verbose)
    _power(report, console)
    if verbose:
        _runs(report, console)
    for note in report.notes:
        console.print(f"  [dim]note: {escape(note)}[/]")


def _proof(report: CheckReport, console: Console, *, verbose: bool) -> None:
    proof = report.proof
    if proof is None:
        return
    console.print(f"  [dim]{escape(proof_line(proof))}[/]")
    if not report.is_proved and not report.is_by_proof_alone:
        print_open(proof, console)
    if report.verdict.value == "equivalent":  # else they are among the reasons
        for region in proof.apart[:SHOWN]:
            console.print(f"  not proved: {escape(str(region))}")
    if verbose:
        print_regions(proof, console)


def _sentence(report: CheckReport) -> str:
    names = " and ".join(names_of(report.original, report.rewritten))
    if report.structure:
        return f"{names} have different inputs or outputs"
    same = report.verdict.value == "equivalent"
    rests = rests_on(report)
    if report.departures:
        named = " and ".join(dict.fromkeys(found.model for found in report.departures))
        rests = f"compared in onnxruntime only, which departs from float64 on {named}"
    if report.is_by_proof_alone:
        rests = "region by region, without running them" if same else "without running them"
        return f"{names}, {rests} ({report.seconds:.1f} s)"
    cases, outputs = len(report.cases), len({output.name for output in report.outputs})
    return (
        f"{names}, {outputs} output{'s' * (outputs != 1)} on {cases} set{'s' * (cases != 1)} of "
        f"inputs, {rests} ({report.seconds:.1f} s)"
    )


def _rows(report: CheckReport, *, verbose: bool) -> list[OutputReport]:
    """Return all outputs, or of each one the gravest and most telling row."""
    if verbose:
        return list(report.outputs)
    chosen: dict[str, tuple[tuple[int, bool], OutputReport]] = {}
    for output in report.outputs:
        gravity = _GRAVEST_FIRST.index(output.judgement.verdict.value)
        rank = (gravity, output.evidence.function is None)
        if output.name not in chosen or rank < chosen[output.name][0]:
            chosen[output.name] = (rank, output)
    return [output for _, output in chosen.values()]


def _outputs(rows: list[OutputReport], console: Console) -> None:
    """Print a row an output; where that is too wide, the sets of inputs become numbers.

    Where that is too wide as well, figures stand under the name of their output.
    """
    table = _table(rows, "inputs", {row.case: row.case for row in rows})
    roomy = console.options.update(width=WIDEST)
    if console.measure(table, options=roomy).maximum <= console.width:
        console.print(table)
        return
    numbers = {case: str(n) for n, case in enumerate(dict.fromkeys(row.case for row in rows), 1)}
    table = _table(rows, "set", numbers)
    table.columns[0].max_width = LEAST
    narrow = console.measure(table, options=roomy).maximum > console.width
    table.columns[0].max_width = None
    if narrow:
        listing = Listing("output", "inputs", *FIGURES, "verdict")
        for row in rows:
            listing.add_row(*_cells(row, row.case))
        console.print(listing)
        return
    console.print(table)
    for case, number in numbers.items():
        console.print(f"  [dim]set {number}: {escape(case)}[/]")


def _table(rows: list[OutputReport], title: str, cases: dict[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("output", overflow="fold")
    table.add_column(title, no_wrap=True)
    for figure in FIGURES:
        table.add_column(figure, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        wrong = row.judgement.verdict.value != "equivalent"
        table.add_row(*_cells(row, cases[row.case]), style="bold" if wrong else None)
    return table


def _cells(row: OutputReport, case: str) -> tuple[str, ...]:
    evidence, judgement = row.evidence, row.judgement
    plain, deployed, function = evidence.verdict_level, evidence.deployed, evidence.function
    return (
        escape(f"{row.name} {evidence.dtype}"),
        escape(case),
        _figure(None if plain is None else plain.max_abs),
        _figure(None if deployed is None else deployed.max_abs),
        _figure(evidence.noise.max),
        _figure(None if function is None else function.deviation.max),
        _figure(judgement.allowed),
        judgement.verdict.value,
    )


def _figure(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2g}"


def _runs(report: CheckReport, console: Console) -> None:
    for run in report.runs:
        peak = "" if run.peak_memory is None else f", peak {run.peak_memory / MIB:.0f} MiB"
        where = " ".join((run.engine, run.version, ", ".join(run.providers))).rstrip()
        console.print(
            f"  [dim]{run.model} in {escape(where)}: load {run.load_seconds:.2f} s, run "
            f"{run.run_seconds:.2f} s, process {run.wall_seconds:.2f} s{peak}[/]"
        )


def _power(report: CheckReport, console: Console) -> None:
    power = report.power
    if power is None:
        return
    if power.method == "estimate":
        console.print(
            f"  [dim]an error of at least {power.smallest_scale_error:.1g} of an output's "
            "scale would have been detected[/]"
        )
        return
    console.print(
        f"  self-test: {power.caught} of {power.planted} planted faults were detected, "
        f"{power.silent} change no output on these inputs, {len(power.missed)} were missed"
    )
    for missed in power.missed[:SHOWN]:
        console.print(f"    missed: {escape(missed)}")

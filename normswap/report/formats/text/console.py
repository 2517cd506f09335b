"""How text comes into a stream, and the pieces that several reports have."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TextIO

from rich.markup import escape

from normswap.errors import ExitCode
from normswap.findings import place_of
from normswap.report.formats.text.listing import HangingConsole, Listing
from normswap.report.standing import gated, proof_line, rests_on, standing, written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from normswap.check.metrics import Metrics
    from normswap.check.report import CheckReport
    from normswap.groupnorm.plan import Untouched
    from normswap.proof.result import Proof
    from normswap.workflows.result import RewriteReport

SHOWN = 8
"""Layers that are listed one by one without being asked."""

ARROW = {"up": "↑", "down": "↓", "beside": "→"}

UNCHECKED = "[dim]not checked (--no-check)[/]"

WIDEST = 100_000
"""Columns into a pipe or file, where nothing needs to be wrapped."""


@contextlib.contextmanager
def printing(stream: TextIO) -> Iterator[Console]:
    """Give a console whose lines go to a stream in the end, which is no terminal of its own."""
    console = HangingConsole(file=stream, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDEST
    with console.capture() as capture:
        yield console
    stream.writelines(
        line.rstrip() + "\n" for line in capture.get().splitlines()
    )  # rich pads the cells of the last column


def kept_table(untouched: Sequence[Untouched], verbose: int) -> Listing:
    """Return a table of the normalizations that stay as they are; from `verbose` 1 on of all."""
    table = Listing("kept", "because")
    rows = [(escape(place_of(entry.site)), escape(entry.detail)) for entry in untouched]
    table.add_rows(rows, None if verbose > 0 else SHOWN)
    return table


def print_check(check: CheckReport, console: Console, finding: str, verbose: int) -> None:
    """Print what the check of a rewrite came to; `finding` is what the verdict is called for it."""
    colour = {ExitCode.OK: "green", ExitCode.FINDINGS: "red"}.get(check.exit_code, "yellow")
    line = f"[{colour}]{finding}{standing(check)}[/]"
    worst = check.worst
    metrics = None if worst is None else worst.evidence.verdict_level
    if check.is_proved and check.proof is not None:
        line += f": {escape(proof_line(check.proof))}"
    elif metrics is not None:
        sets = len(check.cases)
        line += f": on {sets} set{'s' * (sets != 1)} of inputs, {rests_on(check)}"
    console.print(line)
    if metrics is not None:
        console.print(f"  {apart(metrics, is_rounding=check.exit_code == ExitCode.OK)}")
    elif check.proof is not None and not check.is_proved:
        console.print(f"  {escape(proof_line(check.proof))}")
        if not check.is_by_proof_alone:
            print_open(check.proof, console)
    if verbose > 0 and check.proof is not None:
        print_regions(check.proof, console)
    for sentence in (*check.reasons, *check.notes):
        console.print(f"  {escape(sentence)}")


def apart(metrics: Metrics, *, is_rounding: bool) -> str:
    """Say how far the outputs of two models are apart in onnxruntime, and that it is rounding."""
    largest = f"largest value {metrics.reference_max:.3g}"
    if not metrics.max_abs:
        return f"the outputs are the same to the last bit in onnxruntime ({largest})"
    said = f"the outputs differ in onnxruntime by at most {metrics.max_abs:.1e}"
    return said + (", which is rounding error" if is_rounding else "") + f" ({largest})"


def print_open(proof: Proof, console: Console) -> None:
    """Print which outputs are not proved, and why."""
    for output in proof.outputs:
        if output.standing.value == "open":
            name, reason = escape(repr(output.name)), escape(output.reason)
            console.print(f"  [dim]tested only: output {name}: {reason}[/]")


def print_regions(proof: Proof, console: Console) -> None:
    """List the regions that were proved."""
    for region in proof.regions:
        means = "" if region.means is None else region.means.value
        means += " but for a scale and a shift" if region.is_scaled else ""
        console.print(
            f"  [dim]{escape(region.tensor)}: {len(region.before)} -> {len(region.after)} nodes, "
            f"{means}, {region.floors:.2g}[/]"
        )


def print_notes(notes: Sequence[str], console: Console) -> None:
    """Print what a person should know, a line each."""
    for note in notes:
        console.print(f"  [dim]note: {escape(note)}[/]")


def print_written(report: RewriteReport, console: Console) -> None:
    """Print what a gate has found, and what was written."""
    if report.failing:
        console.print(f"[red]{gated(report)}[/]")
    console.print(escape(written(report)))

"""Reports without a rewrite, each of what was looked at and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.markup import escape

from normswap.findings import place_of
from normswap.report import words
from normswap.report.formats.text.console import ARROW, print_notes
from normswap.report.formats.text.listing import LISTS, Listing
from normswap.report.standing import verified
from normswap.report.words import COLUMNS, fate, macs, normalizations, origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from normswap.fleet.work import FleetReport
    from normswap.folding.plan import Folded, Kept, Step
    from normswap.inspection.layers import InspectedLayer
    from normswap.report.envelope import Failure
    from normswap.report.explanation import Explanation
    from normswap.runtime.survey import Survey
    from normswap.workflows.diff import DiffReport
    from normswap.workflows.inspect import InspectReport
    from normswap.workflows.lint import LintReport, RulesReport
    from normswap.workflows.verify import VerifyReport

FEW, SOME, MANY = 5, 8, 20
"""Lines that are shown without being asked: of changed names, of claims, problems and operators,
and of nodes and normalizations."""

FINDINGS = 10
"""Findings of one rule in one model that are."""

LEVELS = {"note": "dim", "warning": "yellow", "error": "red"}


def explain(report: Explanation, console: Console, verbose: int) -> None:
    """Print entries of a plan, all of every one: each route that was tried, step by step."""
    for number, lines in enumerate([*map(_folded, report.folded), *map(_kept, report.kept)]):
        if number:
            console.print()
        for line in lines:
            console.print(escape(line))


def _title(entry: Folded | Kept) -> str:
    site = entry.site
    where = f" in {site.graph}" if site.graph else ""
    channels = f", {site.channels} channels" if site.channels else ""
    return f"{site.op} {site.node}{where}, output {site.output}{channels}"


def _folded(entry: Folded) -> Iterator[str]:
    yield _title(entry)
    nodes = f", with {entry.added_nodes} added nodes" if entry.added_nodes else ""
    yield f"folded{nodes}:"
    yield from _steps(entry.route)
    if not entry.route:
        yield "  the node changes nothing"


def _kept(entry: Kept) -> Iterator[str]:
    yield _title(entry)
    yield f"kept, {entry.reason.value}: {entry.reason.explanation}"
    if not entry.attempts:
        yield f"  {entry.detail}"
    for attempt in entry.attempts:
        yield f"tried {attempt.direction}:"
        yield from _steps(attempt.trail)
        yield f"  ✗ {attempt.reason.value}: {attempt.detail}"


def _steps(steps: Iterable[Step]) -> Iterator[str]:
    for step in steps:
        verb = "carries" if step.action == "carry" else "absorbs"
        note = f": {step.note}" if step.note else ""
        what = f"{verb} scale and shift at {step.tensor}"
        yield f"  {ARROW[step.direction]} {step.op} {step.node} {what}{note}"


def verify(report: VerifyReport, console: Console, verbose: int) -> None:
    """Print which claims of a certificate do not hold, and a sentence."""
    shown = report.findings if verbose > 0 else report.findings[:SOME]
    for finding in shown:
        console.print(f"  {escape(str(finding))}")
    if len(shown) < len(report.findings):
        console.print(f"  and {len(report.findings) - len(shown)} more; {LISTS}")
    print_notes(report.notes, console)
    verdict = "[bold green]holds[/]" if report.holds else "[bold red]does not hold[/]"
    console.print(f"{verdict}: {escape(verified(report))} ({report.seconds:.1f} s)")


def inspect(report: InspectReport, console: Console, verbose: int) -> None:
    """Print what a model is: its origin, its operators, and a table of its normalizations."""
    console.print(f"[bold]{escape(report.source)}[/]  {escape(origin(report))}")
    table = Listing("", "")
    table.show_header = False
    table.add_row(
        "size", f"{decimal(report.size)}, {report.parameters:,} parameters, {macs(report.work)}"
    )
    for what, ports in (("inputs", report.graph_inputs), ("outputs", report.graph_outputs)):
        for number, port in enumerate(ports):
            table.add_row("" if number else what, escape(f"{port.name} {port}"))
    operators = list(report.operators.items())
    shown = operators[: None if verbose > 0 else SOME]
    listed = ", ".join(f"{count} {op}" for op, count in shown)
    rest = len(operators) - len(shown)
    listed += f", and {rest} other types ({LISTS})" if rest else ""
    table.add_row("operators", escape(listed))
    if report.functions:
        table.add_row("functions", str(report.functions))
    console.print(table)
    console.print()
    console.print(normalizations(report))
    if report.layers:
        console.print(_layers(report.layers, verbose))
    problems = [
        f"  [yellow]{escape(place_of(layer))}[/]: {escape(problem)}"
        for layer in report.layers
        for problem in (layer.health.problems if layer.health else ())
    ]
    _print_some(problems, console, verbose, shown=SOME, more="  and {} more ({})")
    how = "looks folded already" if report.looks_folded else "was folded in part"
    for trace in report.traces:
        console.print(f"  the model {how}: {escape(trace)}")


def _layers(layers: tuple[InspectedLayer, ...], verbose: int) -> Listing:
    table = Listing(*COLUMNS)
    rows = []
    for layer in layers:
        *cells, fold = fate(layer)
        colour = {"foldable": "green", "kept": "yellow"}.get(layer.fold)
        told = f"[{colour}]{escape(fold)}[/]" if colour else escape(fold)
        rows.append((*map(escape, cells), told))
    table.add_rows(rows, None if verbose > 0 else MANY)
    return table


def lint(report: LintReport, console: Console, verbose: int) -> None:
    """Print findings, a line each under its model."""
    for model in report.models:
        if model.error:
            console.print(f"[bold]{escape(model.source)}[/]  [red]{escape(model.error)}[/]")
        elif model.findings:
            console.print(f"[bold]{escape(model.source)}[/]")
            table = Listing("", "", "", "", lead=3)
            table.show_header = False
            for code in dict.fromkeys(finding.code for finding in model.findings):
                found = [finding for finding in model.findings if finding.code == code]
                shown = found if verbose > 0 else found[:FINDINGS]
                for finding in shown:
                    fixable = " [fixable]" if finding.fixable else ""
                    table.add_row(
                        f"[{LEVELS[finding.level]}]{finding.code}[/]",
                        finding.name,
                        escape(finding.place),
                        escape(finding.message + fixable),
                    )
                if len(shown) < len(found):
                    rest = len(found) - len(shown)
                    table.add_row(code, found[0].name, f"and {rest} more", LISTS)
            console.print(table)
    console.print(escape(words.lint_summary(report)))


def rules(report: RulesReport, console: Console, verbose: int) -> None:
    """Print a table of rules; from `verbose` 1 on why they matter and what to do."""
    if verbose < 1:
        table = Listing("code", "rule", "level", "what it finds", lead=3)
        for rule in report.rules:
            what = rule.what + (" (--fix removes it)" if rule.fix else "")
            table.add_row(rule.code, rule.name, rule.level, escape(what))
        console.print(table)
        return
    for rule in report.rules:
        console.print(f"[bold]{rule.code}[/] {rule.name} ({rule.level})")
        for sentence in (rule.what, rule.why, rule.how):
            console.print(f"  {escape(sentence)}")
        if rule.fix:
            console.print(f"  lint --fix removes it, as normswap {rule.fix} does.")


def diff(report: DiffReport, console: Console, verbose: int) -> None:
    """Print what changed between two models: nodes gone and new, changed, constants, and names."""
    console.print(f"[bold]{escape(report.before)} → {escape(report.after)}[/]")
    every = (
        f"{change.name}: {change.before or 'none'} → {change.after or 'none'}"
        for change in (*report.head, *report.interface)
    )
    nodes = map(": ".join, map(words.changed, report.changed))
    constants = map(": ".join, map(words.constant, report.constants))
    names = (f"{each.kind} {each.before} → {each.after}" for each in report.renamed)
    for lines, sign, colour, shown in (
        (every, "~", "yellow", MANY),
        (report.gone, "-", "red", MANY),
        (report.new, "+", "green", MANY),
        (nodes, "~", "yellow", MANY),
        (constants, "~", "yellow", MANY),
        (names, "=", "dim", FEW),
    ):
        lead = f"  [{colour}]{sign}[/] "
        told = [f"{lead}{escape(line)}" for line in lines]
        _print_some(told, console, verbose, shown=shown, more=lead + "and {} more; {}")
    console.print(escape(words.diff_summary(report)))


def _print_some(lines: list[str], console: Console, verbose: int, *, shown: int, more: str) -> None:
    """Print lines; the first of them, and how many `more` there are, unless all are asked for."""
    for line in lines if verbose > 0 else lines[:shown]:
        console.print(line)
    if verbose < 1 and len(lines) > shown:
        console.print(more.format(len(lines) - shown, LISTS))


def providers(report: Survey, console: Console, verbose: int) -> None:
    """Print which execution providers run here, and what is in the way of the others."""
    from normswap.runtime.providers import short_name

    built_for = f", built for CUDA {report.cuda}" if report.cuda else ""
    console.print(escape(f"{report.runs} {report.version}{built_for}"))
    table = Listing("", "", "")
    table.show_header = False
    for status in report.providers:
        word = "yes" if status.usable else "no"
        told = "\n".join(filter(None, (status.device or status.why, status.tip)))
        table.add_row(short_name(status.name), word, escape(told))
    console.print(table)
    console.print(f"auto selects {short_name(report.auto)}")
    if report.conflict:
        for told in ("message", "tip"):
            console.print(escape(report.conflict[told]))


def fleet(report: FleetReport, console: Console, verbose: int) -> None:
    """Print what came of each model; from `verbose` 1 on its own report too."""
    for each in report.models:
        colour = {0: "green", 1: "yellow"}.get(each.exit_code, "red")
        goes = f"  → {escape(each.output)}" if each.output else ""
        same = "  [dim]unchanged[/]" if each.unchanged else ""
        head = f"[bold]{escape(each.model)}[/]  [{colour}]{escape(each.line)}[/]{goes}{same}"
        console.print(head)
        if verbose > 0:
            console.print(escape(each.text), soft_wrap=True)


def error(report: Failure, console: Console, verbose: int) -> None:
    """Print why a command ended without its report, and what to do about it."""
    console.print(f"[bold red]error:[/] {escape(report.error.message)}")
    if report.error.tip:
        console.print(f"[cyan]tip:[/] {escape(report.error.tip)}")

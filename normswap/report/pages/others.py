"""Reports without a rewrite: what was looked at and what came of it, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from normswap.findings import place_of
from normswap.report import words
from normswap.report.pages.page import Figure, Items, Name, Page, Word, section, table
from normswap.report.standing import verified
from normswap.report.words import COLUMNS, fate, macs, normalizations, origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from normswap.report.pages.page import Section, Tone
    from normswap.report.wiring import Wiring

MOST = 3
"""Models that a heading names."""

LEVELS: dict[str, Tone] = {
    "pass": "good",
    "note": "plain",
    "warning": "doubtful",
    "error": "bad",
    "failure": "bad",
}


def inspect(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of an inspection."""
    ports = [
        *(("input", port) for port in report.graph_inputs),
        *(("output", port) for port in report.graph_outputs),
    ]
    health = [f"{n.node}: {p}" for n in report.layers if n.health for p in n.health.problems]
    return Page(
        "inspect",
        report.source,
        Word(f"{report.foldable} foldable"),
        normalizations(report),
        (
            ("size", decimal(report.size)),
            ("parameters", f"{report.parameters:,}"),
            ("work", macs(report.work)),
            ("origin", origin(report)),
        ),
        (
            section(
                "Normalizations",
                [
                    table(
                        "Each normalization",
                        COLUMNS,
                        ((Name(c[0]), *c[1:]) for c in map(fate, report.layers)),
                    ),
                    Items((*health, *report.traces)),
                ],
            )
            + section(
                "Inputs, outputs and operators",
                [
                    table(
                        "Ports", ("", "name", "type"), ((w, Name(p.name), str(p)) for w, p in ports)
                    ),
                    table(
                        "Operators",
                        ("operator", "count"),
                        ((op, str(count)) for op, count in report.operators.items()),
                    ),
                ],
            )
        ),
    )


def lint(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of a lint."""
    rules = {rule.code: rule for rule in report.rules}
    found = list(report.findings)
    failed = table(
        "Models that could not be read",
        ("model", "because"),
        ((Name(model.source), model.error) for model in report.models if model.error),
    )
    rows = table(
        "Each finding",
        ("model", "rule", "level", "where", "what", "what to do"),
        (
            (
                Name(model.source),
                f"{finding.code} {finding.name}",
                Word(finding.level, LEVELS[finding.level]),
                Name(finding.place),
                finding.message,
                rules[finding.code].how,
            )
            for model in report.models
            for finding in model.findings
        ),
    )
    levels = {LEVELS[finding.level] for finding in found}
    tone: Tone = "bad" if failed.rows or "bad" in levels else "doubtful" if found else "good"
    return Page(
        "lint",
        ", ".join(model.source for model in report.models[:MOST])
        + (f" and {len(report.models) - MOST} more" if len(report.models) > MOST else ""),
        Word(f"{len(found)} finding{'s' * (len(found) != 1)}" if found else "no findings", tone),
        words.lint_summary(report),
        (("models", str(len(report.models))), ("rules", str(len(report.rules)))),
        section("What was found", [failed, rows]),
    )


def diff(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of a diff."""
    ports = table(
        "The model as a whole",
        ("what", "before", "after"),
        (
            (each.name, each.before or "none", each.after or "none")
            for each in (*report.head, *report.interface)
        ),
    )
    nodes = table(
        "Nodes that are gone or new",
        ("", "node"),
        [
            *((Word("gone", "bad"), Name(node)) for node in report.gone),
            *((Word("new", "good"), Name(node)) for node in report.new),
        ],
    )
    changed = table(
        "Nodes and constants that changed",
        ("what", "how"),
        ((Name(name), how) for name, how in words.details(report)),
    )
    renamed = table(
        "Names that changed",
        ("what", "before", "after"),
        ((each.kind, Name(each.before), Name(each.after)) for each in report.renamed),
    )
    return Page(
        "diff",
        f"{report.before} → {report.after}",
        Word("the models differ") if report.differs else Word("no difference", "good"),
        words.diff_summary(report),
        (("gone", str(len(report.gone))), ("new", str(len(report.new)))),
        section("What changed", [ports, nodes, changed, renamed]),
    )


def fleet(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of many models."""
    wrong = sum(bool(each.exit_code) for each in report.models)
    tones: dict[int, Tone] = {0: "good", 1: "doubtful"}
    rows = table(
        "Each model",
        ("model", "result", "exit code", "seconds", "written", "from an earlier run"),
        (
            (
                Name(each.model),
                Word(each.line, tones.get(each.exit_code, "bad")),
                Figure(str(each.exit_code), each.exit_code),
                Figure(f"{each.seconds:.1f}", each.seconds),
                Name(each.output or ""),
                "yes" if each.unchanged else "",
            )
            for each in report.models
        ),
    )
    return Page(
        report.of,
        f"{len(report.models)} models",
        Word(f"{wrong} with findings or errors", "bad") if wrong else Word("no failures", "good"),
        "",
        (("models", str(len(report.models))), ("with findings or errors", str(wrong))),
        section("What was done", [rows]),
    )


def error(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of a command that ended without its report."""
    tip = (report.error.tip,) if report.error.tip else ()
    sections = section("What to do", [Items(tip)])
    return Page("error", "", Word("error", "bad"), report.error.message, (), sections)


def explain(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of why normalizations were folded or kept, route by route."""
    sections: list[Section] = []
    for entry in report.folded:
        sections += section(
            f"{place_of(entry.site)} is folded",
            [Items(_steps(entry.route) or ("the node changes nothing",))],
        )
    for entry in report.kept:
        tried = [
            Items((f"tried {attempt.direction}, {attempt.detail}", *_steps(attempt.trail)))
            for attempt in entry.attempts
        ]
        title = f"{place_of(entry.site)} is kept ({entry.reason.value})"
        sections += section(title, tried or [Items((entry.detail or entry.reason.explanation,))])
    told = f"{len(report.folded)} folded, {len(report.kept)} kept"
    return Page("explain", report.name, Word(told), "", (), tuple(sections))


def _steps(steps: Iterable[Any]) -> tuple[str, ...]:
    return tuple(
        f"{step.direction}: {step.op} `{step.node}` {step.action}s scale and shift at "
        f"`{step.tensor}`" + (f": `{step.note}`" if step.note else "")
        for step in steps
    )


def verify(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of a certificate that was verified."""
    wrong = table(
        "Each claim that does not hold",
        ("claim", "why it does not hold"),
        ((Name(finding.claim), finding.reason) for finding in report.findings),
    )
    verdict = Word("holds", "good") if report.holds else Word("does not hold", "bad")
    sections = section("What was verified", [wrong, Items(report.notes)])
    return Page("verify", report.certificate, verdict, verified(report), (), sections)


def rules(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of the rules of lint."""
    rows = table(
        "Each rule",
        ("code", "rule", "level", "what it finds", "why it matters", "what to do"),
        ((r.code, r.name, r.level, r.what, r.why, r.how) for r in report.rules),
    )
    return Page("rules", "", Word("Rules"), "", (), section("Rules of lint", [rows]))


def providers(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of the execution providers."""
    rows = table(
        "Each execution provider",
        ("provider", "usable", "device or problem"),
        (
            (Name(p.name), Word("yes", "good") if p.usable else Word("no"), p.device or p.why or "")
            for p in report.providers
        ),
    )
    found = section("Execution providers", [rows])
    return Page("providers", "", Word(f"{report.runs} {report.version}"), "", (), found)

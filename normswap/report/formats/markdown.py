"""Reports for pull requests, wikis and job summaries: headings and tables in Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from normswap.findings import place_of
from normswap.plain import kind_of
from normswap.report import differing
from normswap.report.inspected import COLUMNS, fate, macs, normalizations
from normswap.report.linted import summary
from normswap.report.next import tips
from normswap.report.standing import gated, proof_line, standing, verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from normswap.report.envelope import Envelope, Report


def tell(
    report: Report, stream: TextIO, *, verbose: int = 0, envelope: Envelope | None = None
) -> None:
    """Write a report as Markdown, everything listed one by one; at `verbose` -1 its first line."""
    lines = _KINDS[kind_of(report)](report)
    if verbose < 0:
        lines = iter([next(lines)])
    stream.writelines(f"{line}\n" for line in lines)
    if verbose >= 0:
        stream.writelines(f"\nTip: {_tip(sentence)}.\n" for sentence in tips(report, envelope))


def _fold(report: Any) -> Iterator[str]:
    plan = report.plan
    yield f"## {_text(report.source)}: {len(plan.folded)} folded, {len(plan.kept)} kept"
    yield from _table(
        ("folded", "into"),
        (
            (_site(entry.site), ", ".join(_code(step.node) for step in entry.absorbers))
            for entry in plan.folded
        ),
    )
    yield from _table(
        ("kept", "reason", "because"),
        (
            (_site(entry.site), entry.reason.value, _text(entry.detail or entry.reason.explanation))
            for entry in plan.kept
        ),
    )
    if report.check is not None:
        yield ""
        yield from _check(report.check)
    yield from _written(report, idle="" if plan.edits else "Nothing to fold")


def _explain(report: Any) -> Iterator[str]:
    yield f"## {_text(report.name)}"
    for entry in report.folded:
        yield from ("", f"{_site(entry.site)} is folded:")
        yield from _steps(entry.route)
    for entry in report.kept:
        yield from ("", f"{_site(entry.site)} is kept ({entry.reason.value}):")
        for attempt in entry.attempts:
            yield from ("", f"tried {attempt.direction}, {_text(attempt.detail)}:")
            yield from _steps(attempt.trail)


def _swap(report: Any) -> Iterator[str]:
    plan, check = report.plan, report.check
    yield f"## {_text(report.source)}: {len(plan.swaps)} swapped, {len(plan.untouched)} kept"
    if report.unfolded:
        yield from ("", f"This includes {report.unfolded} that were put back first, as identities.")
    yield from _table(
        ("swapped", "groups", "form", "because", "mean and variance"),
        (
            (_site(s.site), s.num_groups, s.form, _text(s.why), _went(s.statistics))
            for s in plan.swaps
        ),
    )
    if report.regrouping is not None:
        yield from _table(
            ("regrouped", "channels moved", "compared by", "but"),
            (
                (_site(layer.site), layer.moved, layer.by, _text(layer.detail))
                for layer in report.regrouping.layers
            ),
        )
    yield from _kept(plan.untouched)
    if check is not None:
        yield ""
        yield from _check(check, finding=check.finding)
        yield from _table(
            ("same sample alone and in a batch, output", "difference", "largest value"),
            ((_code(o.output), f"{o.max_error:.1e}", f"{o.largest:.3g}") for o in check.invariance),
        )
        yield from _table(
            ("drift of", "cosine", "SNR"),
            (
                (_code(name), f"{drift.cosine:.4f}", f"{drift.snr:.1f} dB")
                for name, drift in check.drift.outputs.items()
            ),
        )
        yield from _table(
            ("output", "equal values", "of"),
            (
                (_code(name), str(found.same), str(found.values))
                for name, found in check.drift.agreement.items()
            ),
        )
        yield from _table(
            ("output left out", "because"),
            ((_code(name), _text(why)) for name, why in check.drift.left_out.items()),
        )
        if not check.drift.own:
            yield from ("", "The drift was measured on random inputs. No accuracy was measured.")
    if report.accuracy is not None:
        found = report.accuracy
        told = f"original {found.original:.1%}, swapped {found.swapped:.1%}"
        told += f" ({found.left_out} other labels name no class)" if found.left_out else ""
        yield from ("", f"Accuracy of {_code(found.output)} on {found.labels} labels: {told}")
    if report.state_dict is not None:
        made = report.state_dict
        yield from ("", f"Weights for torch: {made.tensors} tensors in {_code(made.file)}")
        yield from _table(
            ("missing", "because"), ((_code(e.name), _text(e.why)) for e in made.unmapped)
        )
    yield from _items(map(_text, report.notes))
    yield from _written(report, idle="" if plan.swaps else "Nothing to swap")


def _went(statistics: Any) -> str:
    """Say where the statistics of a layer went."""
    if statistics is None:
        return ""
    into = ", ".join(_code(step.node) for step in statistics.absorbers)
    told = into or _text(statistics.detail)
    return f"{told}; {statistics.added_nodes} new operators" if statistics.added_nodes else told


def _kept(untouched: Any) -> Iterator[str]:
    yield from _table(
        ("kept", "reason", "because"),
        ((_site(entry.site), entry.reason.value, _text(entry.detail)) for entry in untouched),
    )


def _recalibrate(report: Any) -> Iterator[str]:
    done = "recalibrated" if report.samples else "switched to inference mode"
    kept = f", {len(report.untouched)} kept" if report.untouched else ""
    yield f"## {_text(report.source)}: {len(report.layers)} {done}{kept}"
    if report.samples:
        yield from ("", f"On {report.samples} samples.")
    yield from _table(
        (
            "recalibrated" if report.samples else "switched",
            "change of means",
            "variances multiplied by",
        ),
        (
            (_site(layer.site), f"{layer.mean_shift:.3f} std", f"{layer.variance_ratio:.3f}")
            for layer in report.layers
        ),
    )
    yield from _kept(report.untouched)
    mended = (text for layer in report.layers for text in layer.mended)
    yield from _items(map(_text, (*mended, *report.notes)))
    yield from _written(report, idle="" if report.layers else "Nothing to freeze")


def _unfold(report: Any) -> Iterator[str]:
    plan = report.plan
    yield (
        f"## {_text(report.source)}: {len(plan.places)} BatchNormalization put back after "
        "linear layers"
    )
    yield from _table(
        ("after", "channels", "output", "dead channels"),
        ((_site(p), p.channels, _code(p.output), p.dead or "") for p in plan.places),
    )
    yield from _table(
        ("without", "reason", "because"),
        ((_site(p), p.reason.value, _text(p.detail)) for p in plan.left_out),
    )
    if report.check is not None:
        yield ""
        yield from _check(report.check)
    yield from _items(map(_text, report.notes))
    yield from _written(report, idle="" if plan.places else "Nothing to unfold")


def _check(report: Any, *, finding: str = "") -> Iterator[str]:
    names = " and ".join(_code(Path(path).name) for path in (report.original, report.rewritten))
    yield f"**{finding or report.verdict.value}{standing(report)}**: {names}"
    yield from _table(
        ("output", "inputs", "max error", "allowed", "verdict"),
        (
            (
                _code(output.name),
                _text(output.case),
                _figure(getattr(output.evidence.verdict_level, "max_abs", None)),
                _figure(output.judgement.allowed),
                output.judgement.verdict.value,
            )
            for output in report.outputs
        ),
    )
    proved = () if report.proof is None else (proof_line(report.proof),)
    short = (report.shortfall,) if report.shortfall else ()
    yield from _items(map(_text, (*short, *report.reasons, *proved, *report.notes)))


def _verify(report: Any) -> Iterator[str]:
    yield f"**{'holds' if report.holds else 'does not hold'}**: {_text(verified(report))}"
    yield from _table(
        ("claim", "why it does not hold"),
        ((_code(finding.claim), _text(finding.reason)) for finding in report.findings),
    )
    yield from _items(map(_text, report.notes))


def _inspect(report: Any) -> Iterator[str]:
    yield f"## {_text(report.source)}: {_text(normalizations(report))}"
    opsets = ", ".join(f"{domain} {version}" for domain, version in report.opsets.items())
    by = f", by {report.exporter}" if report.exporter else ""
    yield from _items(
        [
            _text(f"{opsets}, IR {report.ir_version}{by}"),
            _text(f"{report.size} bytes, {report.parameters} parameters, {macs(report.work)}"),
            _text(", ".join(f"{count} {op}" for op, count in report.operators.items())),
        ]
    )
    yield from _table(
        COLUMNS, ((_code(cells[0]), *map(_text, cells[1:])) for cells in map(fate, report.layers))
    )
    health = ((layer, layer.health.problems) for layer in report.layers if layer.health)
    yield from _items(
        f"{_code(layer.node)}: {_text(problem)}" for layer, all_ in health for problem in all_
    )
    yield from _items(map(_text, report.traces))


def _lint(report: Any) -> Iterator[str]:
    yield f"## {_text(summary(report))}"
    for model in report.models:
        if model.error:
            yield from ("", f"### {_text(model.source)}", "", f"**error:** {_text(model.error)}")
        elif model.findings:
            yield from ("", f"### {_text(model.source)}")
            yield from _table(
                ("rule", "level", "where", "what"),
                (
                    (f"{each.code} {each.name}", each.level, _place(each), _text(each.message))
                    for each in model.findings
                ),
            )


def _rules(report: Any) -> Iterator[str]:
    yield "## Rules"
    yield from _table(
        ("code", "rule", "level", "what it finds", "why it matters", "what to do"),
        (
            (rule.code, rule.name, rule.level, *map(_text, (rule.what, rule.why, rule.how)))
            for rule in report.rules
        ),
    )


def _diff(report: Any) -> Iterator[str]:
    yield f"## {_text(report.before)} → {_text(report.after)}"
    yield from ("", _text(differing.summary(report)))
    yield from _table(
        ("what", "before", "after"),
        (
            (_text(each.name), _text(each.before or "none"), _text(each.after or "none"))
            for each in (*report.head, *report.interface)
        ),
    )
    yield from _items(f"gone: {_text(node)}" for node in report.gone)
    yield from _items(f"new: {_text(node)}" for node in report.new)
    yield from _items(_text(": ".join(each)) for each in differing.details(report))
    yield from _table(
        ("renamed", "before", "after"),
        ((each.kind, _code(each.before), _code(each.after)) for each in report.renamed),
    )


def _providers(report: Any) -> Iterator[str]:
    yield f"## {report.runs} {report.version}"
    yield from _table(
        ("provider", "usable", "device or problem"),
        (
            (_code(status.name), _yes(status.usable), _text(status.device or status.why or ""))
            for status in report.providers
        ),
    )


def _fleet(report: Any) -> Iterator[str]:
    wrong = sum(bool(each.exit_code) for each in report.models)
    yield f"## {len(report.models)} models, {report.of}: {wrong} with findings or errors"
    yield from _table(
        ("model", "exit code", "result", "written"),
        (
            (
                _code(each.model),
                each.exit_code,
                _text(each.line) + " (unchanged)" * each.unchanged,
                _code(each.output) if each.output else "",
            )
            for each in report.models
        ),
    )


def _error(report: Any) -> Iterator[str]:
    yield f"**error:** {_text(report.error.message)}"


_KINDS: dict[str, Callable[[Any], Iterator[str]]] = {
    "fold": _fold,
    "explain": _explain,
    "swap": _swap,
    "recalibrate": _recalibrate,
    "unfold": _unfold,
    "check": _check,
    "verify": _verify,
    "inspect": _inspect,
    "lint": _lint,
    "diff": _diff,
    "rules": _rules,
    "providers": _providers,
    "fleet": _fleet,
    "error": _error,
}


def _table(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    """Yield a table, after an empty line; nothing if it has no rows."""
    for number, row in enumerate(rows):
        if not number:
            yield from ("", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}")
        yield f"| {' | '.join(map(str, row))} |"


def _items(lines: Iterable[str]) -> Iterator[str]:
    """Yield a list, after an empty line."""
    for number, line in enumerate(lines):
        yield from ([] if number else [""])
        yield f"- {line}"


def _steps(steps: Iterable[Any]) -> Iterator[str]:
    yield from _items(
        f"{step.direction}: {step.op} {_code(step.node)} {step.action}s scale and shift at "
        f"{_code(step.tensor)}" + (f": {_code(step.note)}" if step.note else "")
        for step in steps
    )


def _written(report: Any, *, idle: str = "") -> Iterator[str]:
    yield ""
    if report.failing:
        yield from (f"**{_text(gated(report))}**", "")
    if report.output is None:
        yield f"{idle}, so nothing was written." if idle else "Nothing was written."
    elif idle:
        yield f"{_code(report.output)}: {idle.lower()}, so it is a copy of the model."
    else:
        yield f"{_code(report.output)}: {report.size_before} → {report.size_after} bytes"


def _place(finding: Any) -> str:
    return _code(finding.place) if finding.place else ""


def _site(site: Any) -> str:
    return _code(place_of(site))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _code(name: str) -> str:
    """Return a name as code; what would end the code or the cell is escaped or left out."""
    return f"`{name.replace('`', '')}`".replace("|", "\\|").replace("\n", " ")


def _tip(sentence: str) -> str:
    """Return a tip, whose commands stay code."""
    parts = sentence.rstrip(".").split("`")
    return "".join(_code(part) if at % 2 else _text(part) for at, part in enumerate(parts))


def _text(sentence: str) -> str:
    """Return a sentence in which nothing is Markdown."""
    escaped = "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in sentence)
    return escaped.replace("\n", " ")

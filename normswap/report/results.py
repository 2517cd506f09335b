"""A report as a list of results: what JUnit, SARIF and GitHub want, whichever command it is of.

A result is one thing that was looked at and what came of it: a normalization of a fold, an output
of a check, a rule of a lint.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from normswap.errors import ExitCode
from normswap.findings import place_of
from normswap.plain import kind_of
from normswap.report.standing import standing, verified
from normswap.report.words import details, diff_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from normswap.check.verdict import Verdict
    from normswap.findings import Finding
    from normswap.report.envelope import Envelope, Report


@dataclass(frozen=True, slots=True)
class ReportItem:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What it is: an operator and its name, an output, a rule.
    level : {"pass", "note", "warning", "error", "failure"}
        What came of it: nothing to say; something to know, as of a node that stays; something to
        mend; something wrong; or it could not be looked at.
    message : str
        What to say of it; empty where it passes.
    code, title : str
        What kind of finding it is, and the same in words.
    help : str
        What to do.
    place : str
        The node that it is about; empty where that is the whole model.
    model : str
        The file.
    """

    name: str
    level: Literal["pass", "note", "warning", "error", "failure"]
    message: str = ""
    code: str = ""
    title: str = ""
    help: str = ""
    place: str = ""
    model: str = ""

    @property
    def is_finding(self) -> bool:
        """Whether something is to be done about it."""
        return self.level in {"warning", "error", "failure"}


def results_of(report: Report, envelope: Envelope | None = None) -> list[ReportItem]:
    """Return what a report comes to, in its order.

    Parameters
    ----------
    report : Report
        Of any command.
    envelope : Envelope, optional
        Knows the paths of what was read.
    """
    read = [file.path for file in envelope.inputs] if envelope is not None else []
    model = read[0] if read else str(getattr(report, "source", ""))
    return [
        result if result.model else replace(result, model=model)
        for result in _KINDS[kind_of(report)](report)
    ]


def from_checkout(model: str) -> str:
    """Return a path as GitHub knows it, in one of its jobs: beginning at the checkout."""
    root = os.environ.get("GITHUB_WORKSPACE")
    if not root or not model or model.startswith("<"):
        return model
    path = Path(model).absolute()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else model


def by_model(results: Iterable[ReportItem]) -> dict[str, list[ReportItem]]:
    """Return results by the file that they are about."""
    found: dict[str, list[ReportItem]] = {}
    for result in results:
        found.setdefault(result.model, []).append(result)
    return found


def _of(finding: Finding, **more: str) -> ReportItem:
    return ReportItem(
        finding.place or finding.name,
        finding.level,
        finding.message,
        finding.code,
        finding.name,
        place=finding.place,
        **more,
    )


def _done(site: Any) -> ReportItem:
    return ReportItem(f"{site.op} {place_of(site)}", "pass", place=place_of(site))


def _kept(entry: Any) -> ReportItem:
    place, why = place_of(entry.site), entry.reason
    told = entry.detail or why.explanation
    return ReportItem(
        f"{entry.site.op} {place}", "note", f"kept: {told}", why.value, why.explanation, "", place
    )


def _rewrite(report: Any, done: Iterable[Any], kept: Iterable[Any]) -> Iterator[ReportItem]:
    """Yield what became of normalizations; a finding of a gate takes the place of its node's."""
    every = {result.place: result for result in (*map(_done, done), *map(_kept, kept))}
    failing = [_of(finding) for finding in report.failing]
    # A case keeps its name, whatever comes of it.
    named = [replace(f, name=every[f.place].name if f.place in every else f.name) for f in failing]
    gone = {result.place for result in failing}
    yield from (result for place, result in every.items() if place not in gone)
    yield from named


def _fold(report: Any) -> Iterator[ReportItem]:
    sites = [entry.site for entry in report.plan.folded]
    yield from _rewrite(report, sites, report.plan.kept)
    for residual in report.residuals:
        if not residual.is_rounding:
            told = f"{residual.tensor} deviates from its formula by {residual.ulps:.3g} ulp"
            yield ReportItem(residual.tensor, "error", told, "residual", place=residual.tensor)
    if report.check is not None:
        yield from _compared(report.check)


def _explain(report: Any) -> Iterator[ReportItem]:
    yield from map(_done, (entry.site for entry in report.folded))
    yield from map(_kept, report.kept)


def _swap(report: Any) -> Iterator[ReportItem]:
    plan, check = report.plan, report.check
    yield from _rewrite(report, (swap.site for swap in plan.swaps), plan.untouched)
    same = report.normalization
    if same is not None:
        told = "; ".join(
            ("the normalized network is not equivalent to the original", *same.reasons)
        )
        yield replace(_verdict(same.verdict, told), name="normalization")
    if check is not None:
        yield from _compared(check)


def _recalibrate(report: Any) -> Iterator[ReportItem]:
    yield from map(_done, (layer.site for layer in report.layers))
    yield from map(_kept, report.untouched)


def _unfold(report: Any) -> Iterator[ReportItem]:
    for entry in report.plan.places:
        place = place_of(entry)
        yield ReportItem(f"BatchNormalization after {entry.op} {place}", "pass", place=place)
    for entry in report.plan.left_out:
        place, why = place_of(entry), entry.reason.value
        name = f"{entry.op} {place}"
        yield ReportItem(name, "note", f"not put back: {entry.detail}", why, place=place)
    if report.check is not None:
        yield from _compared(report.check)


def _verdict(verdict: Verdict, told: str) -> ReportItem:
    code = verdict.exit_code
    level: Literal["pass", "error", "failure"] = (
        "pass" if not code else "error" if code is ExitCode.FINDINGS else "failure"
    )
    why = "" if level == "pass" else told
    return ReportItem("check", level, why, verdict.value, "result of the check")


def _check(report: Any) -> Iterator[ReportItem]:
    """Yield where the models differ, as far as that is known, each output, and the verdict."""
    yield from (replace(result, model=report.rewritten) for result in _compared(report))


def _compared(report: Any) -> Iterator[ReportItem]:
    different = report.verdict.value == "different"
    for region in report.proof.apart if different and report.proof is not None else ():
        name, title = f"region {region.tensor}", "where the models differ"
        yield ReportItem(name, "error", str(region), "region", title, place=region.tensor)
    told = False
    for finding in report.source.findings if report.source is not None else ():
        told = True
        name = f"{finding.code} {finding.place}".rstrip()
        title = "differs from the module it was exported from"
        yield ReportItem(name, "error", finding.message, finding.code, title, place=finding.place)
    for name in dict.fromkeys(output.name for output in report.outputs):
        outputs = [output for output in report.outputs if output.name == name]
        wrong = [o for o in outputs if o.judgement.verdict.value != "equivalent"]
        if not wrong:
            yield ReportItem(f"output {name}", "pass", place=name)
            continue
        told = True
        first = wrong[0]
        kind = first.judgement.verdict.value
        level: Literal["error", "failure"] = "error" if kind == "different" else "failure"
        why = f"{first.judgement.reason} ({first.case})"
        yield ReportItem(f"output {name}", level, why, kind, "an output differs", place=name)
    reasons = () if told else report.reasons
    yield _verdict(
        report.verdict, "; ".join((f"{report.verdict.value}{standing(report)}", *reasons))
    )
    if report.shortfall:
        yield ReportItem("proof", "error", report.shortfall, "not-proved", "not completely proved")


def _verify(report: Any) -> Iterator[ReportItem]:
    for finding in report.findings:
        yield ReportItem(finding.claim, "error", finding.reason, "claim", "a claim does not hold")
    if report.holds:
        yield ReportItem(verified(report), "pass")


def _inspect(report: Any) -> Iterator[ReportItem]:
    for layer in report.layers:
        problems = "; ".join(layer.health.problems) if layer.health else ""
        place = place_of(layer)
        name, title = f"{layer.op} {place}", "suspicious values"
        if problems:
            yield ReportItem(name, "note", problems, "health", title, place=place)
        else:
            yield ReportItem(name, "pass", place=place)


def _lint(report: Any) -> Iterator[ReportItem]:
    rules = {rule.code: rule for rule in report.rules}
    for model in report.models:
        if model.error:
            yield ReportItem("lint", "failure", model.error, "unreadable", model=model.source)
        found = {finding.code for finding in model.findings}
        for code in model.rules:
            if code not in found:
                yield ReportItem(f"{code} {rules[code].name}", "pass", model=model.source)
        for finding in model.findings:
            rule = rules[finding.code]
            result = _of(finding, model=model.source, help=f"{rule.why} {rule.how}")
            yield replace(result, name=f"{finding.code} {finding.name} {finding.place}".rstrip())


def _rules(report: Any) -> Iterator[ReportItem]:
    for rule in report.rules:
        yield ReportItem(f"{rule.code} {rule.name}", "pass")


def _diff(report: Any) -> Iterator[ReportItem]:
    model = report.after
    for each in report.interface:
        change = f"{each.name}: {each.before or 'none'} → {each.after or 'none'}"
        yield ReportItem(
            each.name, "error", change, "interface", "the interface changed", model=model
        )
    told = [
        *(("gone", "a node was removed", node, "it was removed") for node in report.gone),
        *(("new", "a node was added", node, "it was added") for node in report.new),
        *(("changed", "a node or constant changed", *each) for each in details(report)),
    ]
    for code, title, name, message in told:
        yield ReportItem(name, "error", message, code, title, place=name, model=model)
    if not report.differs:
        yield ReportItem(diff_summary(report), "pass", model=model)


def _providers(report: Any) -> Iterator[ReportItem]:
    for status in report.providers:
        if status.usable:
            yield ReportItem(status.name, "pass")
        else:
            yield ReportItem(status.name, "note", str(status.why or ""), "not-usable")


def _fleet(report: Any) -> Iterator[ReportItem]:
    for each in report.models:
        yield from (ReportItem(**result) for result in each.results)


def _error(report: Any) -> Iterator[ReportItem]:
    error = report.error
    yield ReportItem("normswap", "failure", error.message, error.type, error.type, error.tip or "")


_KINDS: dict[str, Callable[[Any], Iterator[ReportItem]]] = {
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

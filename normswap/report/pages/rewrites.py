"""What fold, unfold and recalibrate did."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from normswap.findings import place_of
from normswap.report.pages import check as checks
from normswap.report.pages.check import number
from normswap.report.pages.neighbourhood import PicturedPlace, kinds_of, left_out
from normswap.report.pages.page import (
    Figure,
    Items,
    Name,
    Page,
    Pictures,
    Plot,
    Section,
    Series,
    Table,
    Word,
    section,
    table,
)
from normswap.report.standing import gated, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from normswap.folding.plan import Step
    from normswap.report.pages.neighbourhood import Role
    from normswap.report.pages.page import Block
    from normswap.report.wiring import Wiring

ROLES: dict[str, Role] = {"absorb": "takes", "carry": "passes"}


def fold(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of a fold."""
    plan = report.plan
    places = [
        PicturedPlace(
            {(e.site.graph, e.site.node): "gone", **along(e.site, e.route)},
            ((site(e.site).text, _into(e.absorbers)),),
        )
        for e in plan.folded
    ]
    places += [
        PicturedPlace(
            {(m.graph, m.node): "takes", **{(m.graph, name): "gone" for name in m.branches}}
        )
        for m in plan.merged
    ]
    planned = all(not entry.added_nodes for entry in plan.folded)
    folded = table(
        "Each normalization that was folded",
        ("normalization", "channels", "into", "along"),
        (
            (site(e.site), channels(e.site), Name(_into(e.absorbers)), _way(e.route))
            for e in plan.folded
        ),
    )
    merged = table(
        "Parallel branches that were merged into one Conv",
        ("Conv", "branches"),
        ((Name(entry.node), Name(", ".join(entry.branches))) for entry in plan.merged),
    )
    drawn = pictures(places, ("normalization", "into"), wirings, planned=planned)
    return rewrite(
        report,
        "fold",
        (("folded", str(len(plan.folded))), ("kept", str(len(plan.kept)))),
        [
            *section(heading(report), [drawn, folded, merged]),
            *section("What was kept, and why", [kept(plan.kept)]),
        ],
        _constants(report),
    )


def heading(report: Any) -> str:
    """Return what stands over what a rewrite does to a model."""
    return "What was done" if report.written else "What would be done"


def along(of: Any, route: Iterable[Step]) -> dict[tuple[str, str], Role]:
    """Return what the operators on a route did."""
    return {(of.graph, step.node): ROLES[step.action] for step in route}


def unfold(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of an unfold."""
    plan = report.plan
    places = [
        PicturedPlace({(p.graph, p.node): "passes"}, ((place_of(p), p.output),))
        for p in plan.places
    ]
    done: list[Block] = [
        pictures(places, ("after", "output"), wirings),
        table(
            "Each BatchNormalization that was put back",
            ("after", "operator", "channels", "output", "dead channels"),
            (
                (
                    Name(place_of(p)),
                    p.op,
                    Figure(str(p.channels), p.channels),
                    Name(p.output),
                    Figure(str(p.dead or ""), p.dead),
                )
                for p in plan.places
            ),
        ),
    ]
    without = table(
        "Linear layers that got none",
        ("layer", "operator", "reason", "because"),
        ((Name(place_of(p)), p.op, p.reason.value, p.detail) for p in plan.left_out),
    )
    return rewrite(
        report,
        "unfold",
        (("put back", str(len(plan.places))), ("without", str(len(plan.left_out)))),
        [
            *section(heading(report), done),
            *section("What was left as it was, and why", [without]),
        ],
    )


def recalibrate(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of a recalibration."""
    layers = report.layers
    points = tuple(site(layer.site).text for layer in layers)
    columns = ["normalization", "channels", "switched to inference mode"]
    plots: list[Block] = []
    if report.samples:
        columns += ["change of means", "variances multiplied by"]
        for what, unit, values in (
            (
                "Change of the means of each layer",
                "standard deviations",
                _all(layers, "mean_shift"),
            ),
            (
                "Factor by which the variances of each layer changed",
                "times",
                _all(layers, "variance_ratio"),
            ),
        ):
            plots.append(Plot(what, unit, points, (Series(unit, values),), told=_range(values)))
    rows = table(
        "Each layer",
        columns,
        (
            (
                site(layer.site),
                channels(layer.site),
                "yes" if layer.frozen else "",
                *(
                    (number(layer.mean_shift, ".3f", " std"), number(layer.variance_ratio, ".3f"))
                    if report.samples
                    else ()
                ),
            )
            for layer in layers
        ),
    )
    mended = tuple(text for layer in layers for text in layer.mended)
    page = rewrite(
        report,
        "recalibrate",
        (("layers", str(len(layers))), ("samples", str(report.samples or "none"))),
        [
            *section("What was done", [*plots, rows, Items(mended)]),
            *section("What was kept, and why", [kept(report.untouched)]),
        ],
    )
    if not report.written:
        return page
    done = f"recalibrated on {report.samples} samples" if report.samples else "in inference mode"
    return replace(page, verdict=Word(done, "good"), said="")


def rewrite(
    report: Any,
    command: str,
    counts: tuple[tuple[str, str], ...],
    before: Sequence[Section],
    after: Sequence[Section] = (),
) -> Page:
    """Return the page of a rewrite: what was done, its check, and how large it is."""
    check = getattr(report, "check", None)
    sections = list(before)
    if check is not None:
        sections += checks.sections(check)
    size = decimal(report.size_before)
    if report.size_after is not None:
        size += f" → {decimal(report.size_after)}"
    figures = (*counts, ("size", size))
    if check is not None:
        figures += checks.figures(check)
    verdict, said = _verdict(report)
    sections += after
    told = written(report)
    notes = *getattr(report, "notes", ()), *([told] if told != said else ())
    sections += section("Notes", [Items(notes)])
    return Page(command, report.source, verdict, said, figures, tuple(sections))


def _verdict(report: Any) -> tuple[Word, str]:
    check = getattr(report, "check", None)
    if report.failing:
        return Word("findings", "bad"), gated(report)
    if check is not None:
        word = getattr(check, "finding", "")
        return checks.verdict(check, word), checks.rests(check)
    if not report.written:
        return Word("nothing was written"), written(report)
    return Word("not checked", "doubtful"), "The result was not compared with the original model."


def pictures(
    places: Sequence[PicturedPlace],
    columns: tuple[str, ...],
    wirings: Sequence[Wiring | None],
    *,
    planned: bool = False,
) -> Pictures:
    """Return pictures of places, where the model is known."""
    before, after = (*wirings, None, None)[:2]
    if before is None:
        return Pictures((), columns)
    kinds = kinds_of(places, before, after, planned=planned)
    return Pictures(tuple(kinds), columns, left_out(places, kinds))


def kept(entries: Iterable[Any]) -> Table:
    """Return a table of the normalizations that stay."""
    return table(
        "Each normalization that was kept",
        ("normalization", "channels", "reason", "because"),
        (
            (site(e.site), channels(e.site), e.reason.value, e.detail or e.reason.explanation)
            for e in entries
        ),
    )


def site(of: Any) -> Name:
    """Return what a normalization is called."""
    return Name(place_of(of))


def channels(of: Any) -> Figure:
    """Return how many channels it has."""
    return Figure("?" if of.channels is None else str(of.channels), of.channels or 0)


def _into(steps: Iterable[Step]) -> str:
    return ", ".join(f"{step.op} {step.node}" for step in steps)


def _way(route: Iterable[Step]) -> str:
    arrows = {"up": "↑", "down": "↓", "beside": "→"}
    steps = [f"{arrows[step.direction]}\N{NO-BREAK SPACE}{step.op}" for step in route]
    return " ".join(steps) or "nothing to do"


def _all(layers: Iterable[Any], name: str) -> tuple[float | None, ...]:
    values = (getattr(layer, name) for layer in layers)
    return tuple(value if math.isfinite(value) else None for value in values)


def _range(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"From {min(known):.3g} to {max(known):.3g}." if known else "Unknown."


def _constants(report: Any) -> tuple[Section, ...]:
    """Return how far written constants are off their formulas."""
    found = report.residuals
    ulps = tuple(r.ulps if math.isfinite(r.ulps) else None for r in found)
    known = [value for value in ulps if value is not None]
    blocks: list[Block] = []
    if len(known) > 3:
        blocks.append(
            Plot(
                "Deviation of each written constant from its formula",
                "units in the last place",
                tuple(r.tensor for r in found),
                (Series("ulp", ulps),),
                limit=0.5,
                told=f"The largest of {len(known)} deviations is {max(known):.2g} ulp; a "
                "single rounding leaves up to 0.5.",
            )
        )
    blocks.append(
        table(
            "Each written constant",
            ("constant", "deviation", "allowed for rounding", ""),
            (
                (
                    Name(r.tensor),
                    number(r.ulps, ".2g", " ulp"),
                    number(r.allowed, "g", " ulp"),
                    Word("rounding", "good")
                    if r.is_rounding
                    else Word("more than rounding", "bad"),
                )
                for r in found
            ),
        )
    )
    return section("The constants", blocks, "Each constant was read back from the written model.")

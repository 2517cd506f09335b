"""What a check found: outputs, what is proved and what tested, and the regions of a proof."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from normswap.report.pages.neighbourhood import PicturedPlace, kinds_of, left_out, roles
from normswap.report.pages.page import (
    UNKNOWN,
    Figure,
    Items,
    Name,
    Page,
    Pictures,
    Plot,
    Section,
    Series,
    Word,
    section,
    table,
)
from normswap.report.standing import names_of, proof_line, standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.check.report import CheckReport, OutputReport
    from normswap.proof.result import Region
    from normswap.report.pages.page import Block, Cell, Tone
    from normswap.report.wiring import Wiring

TONES: dict[str, Tone] = {
    "equivalent": "good",
    "different": "bad",
    "inconclusive": "doubtful",
    "identical": "good",
    "proved": "good",
    "apart": "bad",
    "open": "doubtful",
}

STANDINGS = {
    "identical": "proved: the same operators on the same constants",
    "proved": "proved, region by region",
    "apart": "equal except for regions that differ",
    "open": "tested only",
}


def page(report: CheckReport, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of a check."""
    apart, regions = (
        (report.proof.apart, report.proof.regions) if report.proof is not None else ((), ())
    )
    return Page(
        "check",
        " and ".join(names_of(report.original, report.rewritten)),
        verdict(report),
        rests(report),
        (*figures(report), ("seconds", f"{report.seconds:.1f}")),
        (
            *section("Where the function differs", [_pictures(apart, wirings)]),
            *section("Where only the operators differ", [_pictures(regions, wirings)]),
            *sections(report),
        ),
    )


def verdict(report: CheckReport, word: str = "") -> Word:
    """Return the verdict, as it is called for a rewrite."""
    found = report.verdict.value
    return Word(f"{word or found}{standing(report)}", TONES[found])


def rests(report: CheckReport) -> str:
    """Say what a verdict rests on."""
    if report.is_proved and report.proof is not None:
        return proof_line(report.proof)
    if report.shortfall or report.reasons:
        return report.shortfall or report.reasons[0]
    outputs = len({output.name for output in report.outputs})
    return f"{outputs} outputs, compared on {len(report.cases)} sets of inputs"


def figures(report: CheckReport) -> tuple[tuple[str, str], ...]:
    """Return the figures of a check that a person looks for first."""
    worst = report.worst
    metrics = None if worst is None else worst.evidence.verdict_level
    if metrics is None:
        return ()
    return (
        ("largest difference", f"{metrics.max_abs:.1e}"),
        ("largest value", f"{metrics.reference_max:.3g}"),
    )


def sections(report: CheckReport) -> list[Section]:
    """Return what a check compared, and what it proved."""
    reasons = Items(tuple(filter(None, (report.shortfall, *report.reasons))))
    return [
        *section("What was tested", [reasons, *_tested(report), Items(report.notes)]),
        *section("What was proved", _proved(report)),
    ]


def _tested(report: CheckReport) -> list[Block]:
    rows = [_row(output) for output in report.outputs]
    shares = tuple(_share(output) for output in report.outputs)
    points = tuple(f"{output.name}, {output.case}" for output in report.outputs)
    known = [share for share in shares if share is not None]
    blocks: list[Block] = []
    if len(known) > 3:
        blocks.append(
            Plot(
                "Error of each output, as a share of the allowed error",
                "share of the allowed error",
                points,
                (Series("error", shares),),
                limit=1.0,
                told=f"The largest of {len(known)} errors is {max(known):.2g} times the "
                "allowed error.",
            )
        )
    columns = ("output", "type", "inputs", "max error", "in float64", "allowed", "verdict")
    return [*blocks, table("Each output on each set of inputs", columns, rows)]


def _row(output: OutputReport) -> tuple[Cell, ...]:
    evidence, judged = output.evidence, output.judgement
    plain, function = evidence.verdict_level, evidence.function
    return (
        Name(output.name),
        evidence.dtype,
        output.case,
        number(None if plain is None else plain.max_abs),
        number(None if function is None else function.deviation.max),
        number(judged.allowed),
        Word(judged.verdict.value, TONES[judged.verdict.value]),
    )


def _share(output: OutputReport) -> float | None:
    """Return the error that the judgement is about, in parts of what it allows."""
    evidence, judged = output.evidence, output.judgement
    if not judged.allowed:
        return None
    if judged.basis in {"arbiter", "proof"} and evidence.function is not None:
        error = evidence.function.deviation.max
    elif evidence.verdict_level is not None:
        error = evidence.verdict_level.max_abs
    else:
        return None
    share = error / judged.allowed
    return share if math.isfinite(share) else None


def number(value: float | None, form: str = ".2g", unit: str = "") -> Figure:
    """Return a cell of a number; one that is not known sorts first."""
    if value is None or math.isnan(value):
        return Figure(UNKNOWN, -math.inf)
    return Figure(f"{value:{form}}{unit}", value)


def _proved(report: CheckReport) -> list[Block]:
    proof = report.proof
    if proof is None:
        return [Items(("No proof was attempted: the outputs were compared on inputs only.",))]
    rows = [
        (
            Name(output.name),
            Word(STANDINGS[output.standing.value], TONES[output.standing.value]),
            output.reason,
        )
        for output in proof.outputs
    ]
    regions = proof.regions
    line = proof_line(proof)
    blocks: list[Block] = [Items((f"{line[:1].upper()}{line[1:]}.",))]
    blocks.append(table("Each output", ("output", "status", "because"), rows))
    if len(regions) > 3:
        floors = tuple(region.floors for region in regions)
        blocks.append(
            Plot(
                "Deviation of each region, in units of the rounding error of its constants",
                "rounding error = 1",
                tuple(region.tensor for region in regions),
                (Series("deviation", floors),),
                told=f"The largest of {len(floors)} deviations is {max(floors):.2g} times the "
                "rounding error.",
            )
        )
    blocks.append(
        table(
            "Regions with different operators, each proved to be the same function",
            ("makes", "operators before", "operators after", "proved by", "deviation"),
            (
                (
                    Name(region.tensor),
                    Name(", ".join(region.before)),
                    Name(", ".join(region.after)),
                    "" if region.means is None else region.means.value,
                    number(region.floors),
                )
                for region in regions
            ),
        )
    )
    return blocks


def _pictures(regions: Sequence[Region], wirings: Sequence[Wiring | None]) -> Pictures:
    before, after = (*wirings, None, None)[:2]
    columns = ("makes", "operators before", "operators after")
    if before is None or after is None:
        return Pictures((), columns)
    places = []
    for region in regions:
        old, new = roles(_titles(region.before, before), _titles(region.after, after))
        label = region.tensor, ", ".join(region.before), ", ".join(region.after)
        places.append(PicturedPlace(old, (label,), new))
    kinds = kinds_of(places, before, after)
    return Pictures(tuple(kinds), columns, left_out(places, kinds))


def _titles(nodes: Sequence[str], wiring: Wiring) -> list[tuple[str, str]]:
    """Return what a wiring calls the nodes of a region; a proof says which function they are in."""
    wanted = {tuple(title.split(" in ")[0].partition(" ")[::2]) for title in nodes}
    return [node.title for node in wiring.nodes if (node.op, node.name) in wanted]

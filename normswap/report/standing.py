"""What a check has proved, and what of that was made again, in words that every format uses."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from normswap.plain import kind_of

if TYPE_CHECKING:
    from normswap.check.report import CheckReport
    from normswap.proof.result import Proof
    from normswap.workflows.result import RewriteReport
    from normswap.workflows.verify import VerifyReport


def standing(report: CheckReport) -> str:
    """Say, behind the verdict, whether what is equivalent is proved, or tested on inputs."""
    if report.verdict.value != "equivalent" or report.proof is None:
        return ""
    if not report.is_proved:
        return ", tested"
    return (
        f", proved to within {precision}" if (precision := report.proof.precision) else ", proved"
    )


def rests_on(report: CheckReport) -> str:
    """Say what the verdict of a check rests on."""
    same = report.verdict.value == "equivalent"
    rests = {
        "proof": "compared region by region and in the runtime"
        if same
        else "decided by a region that computes another function",
        "arbiter": "compared in float64 and in the runtime",
        "noise floor": "within the original's own rounding noise"
        if same
        else "judged by the original's own rounding noise",
        "tolerance": "judged by the given tolerance",
        "values": "compared value by value",
    }.get(report.basis, "judged by what could be compared")
    if report.basis == "arbiter" and all(o.evidence.verdict_level is None for o in report.outputs):
        return "compared in float64 only"
    return rests


def names_of(one: str, other: str) -> tuple[str, str]:
    """Return what to call two models: by their files, with folders where these have one name."""
    names = Path(one).name, Path(other).name
    return (one, other) if names[0] == names[1] and one != other else names


def written(report: RewriteReport) -> str:
    """Say what was written and how large it is, or why there was nothing to do."""
    from rich.filesize import decimal

    what, done = {
        "fold": ("fold", "plan.edits"),
        "swap": ("swap", "plan.swaps"),
        "unfold": ("unfold", "plan.places"),
        "recalibrate": ("freeze", "layers"),
    }[kind_of(report)]
    idle = "" if attrgetter(done)(report) else f"nothing to {what}, so "
    size = decimal(report.size_after or report.size_before)
    if report.output is None:
        return f"{idle}nothing was written; the model has {size}"
    if idle:
        return f"{report.output}  {idle}it is a copy of the model, {size}"
    return f"{report.output}  {decimal(report.size_before)} → {size}"


def gated(report: RewriteReport) -> str:
    """Say what a dry run was told to fail on, and how much there is; empty where nothing is."""
    counts = Counter(finding.code for finding in report.failing)
    listed = ", ".join(f"{count} {code}" for code, count in counts.items())
    return f"{listed}; --fail-on allows none" if listed else ""


def proof_line(proof: Proof) -> str:
    """Say what was proved of two models, in a line."""
    if proof.reason:
        return f"nothing is proved: {proof.reason}"
    return _counted(proof.identical, proof.values, len(proof.regions), proof.largest, proof.floors)


def verified(report: VerifyReport) -> str:
    """Say what was made again of a certificate, in a line."""
    names = " and ".join(names_of(report.original, report.rewritten))
    said = f"{Path(report.certificate).name} of {names}"
    if not report.holds:
        count = len(report.findings)
        return f"{said}, {count} claim{'s are' if count != 1 else ' is'} wrong"
    what = report.identical, report.values, report.regions, report.largest, report.floors
    said += f", {report.verdict}: {_counted(*what)}"
    return said + (f"; tested again: {', '.join(report.tested)}" if report.tested else "")


def _counted(identical: int, values: int, regions: int, largest: int, floors: float) -> str:
    said = f"{identical} of {values} values are identical"
    if regions:
        said += (
            f", {regions} proved equal in regions of up to {largest} nodes (largest "
            f"deviation: {floors:.2g} times the rounding error of the constants)"
        )
    return said

"""What changed between two models, in words that every format uses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.diff.changes import ConstantChange, NodeChange
    from normswap.workflows.diff import DiffReport


def summary(report: DiffReport) -> str:
    """Say how much changed, and whether the function did."""
    if not report.differs:
        names = f", {len(report.renamed)} names differ" if report.renamed else ""
        return f"the same operators on the same constants: {report.nodes} nodes{names}"
    parts = (
        (len(report.gone), "gone"),
        (len(report.new), "new"),
        (len(report.changed), "changed"),
        (len(report.constants), "constants with other values"),
        (len(report.renamed), "renamed"),
    )
    counts = ", ".join(f"{count} {what}" for count, what in parts if count)
    said = f"{report.nodes} nodes unchanged" + (f"; {counts}" if counts else "")
    return said if not report.same_function else f"{said}; the outputs are still the same function"


def changed(change: NodeChange) -> tuple[str, str]:
    """Return which node is another, and what is different in it."""
    told = [
        f"{each.name} {each.before or 'not set'} → {each.after or 'not set'}"
        for each in change.attributes
    ]
    was = "" if change.before == change.after else f" (was {change.before})"
    return f"{change.after}{was}", "; ".join([*told, *change.inputs])


def constant(change: ConstantChange) -> tuple[str, str]:
    """Return which constant has other values, and how much of it by how much."""
    was = "" if change.before == change.after else f" (was {change.before})"
    name = f"{change.after}{was}, read by {change.read_by}"
    if change.was != change.now:
        return name, f"{change.was} → {change.now}"
    told = f"{change.changed} of {change.elements} elements of {change.now} differ"
    if math.isnan(change.max_change):
        return name, told
    how = f"by at most {change.max_change:.3g} (largest value before: {change.largest:.3g})"
    return name, f"{told}, {how}"


def details(report: DiffReport) -> Iterator[tuple[str, str]]:
    """Yield what is different in nodes and constants that are there in both models."""
    yield from map(changed, report.changed)
    yield from map(constant, report.constants)

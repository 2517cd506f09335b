"""What is said of models that were looked at, in words that every format uses."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from normswap.findings import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.diff.changes import ConstantChange, NodeChange
    from normswap.inspection.layers import InspectedLayer
    from normswap.inspection.size import Work
    from normswap.workflows.diff import DiffReport
    from normswap.workflows.inspect import InspectReport
    from normswap.workflows.lint import LintReport

COLUMNS = ("normalization", "operator", "channels", "epsilon", "mode", "reads", "read by", "fold")
"""Of the table of normalizations."""

UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def origin(report: InspectReport) -> str:
    """Say of which versions a model is, and what wrote it."""
    opsets = ", ".join(f"{domain} {version}" for domain, version in report.opsets.items())
    by = f", by {report.exporter}" if report.exporter else ""
    return f"{opsets}, IR {report.ir_version}{by}"


def macs(work: Work) -> str:
    """Say how many multiply-adds a sample takes, and of how many operators that is not known."""
    if work.macs is None:
        counted = "no multiply-adds" if not work.unknown else "multiply-adds unknown"
    else:
        size, unit = next(((s, u) for s, u in UNITS if work.macs >= s), (1, ""))
        counted = f"{work.macs / size:.3g} {unit}MACs"
    if work.unknown:
        counted += f" ({len(work.unknown)} operators of unknown size not counted)"
    return counted


def normalizations(report: InspectReport) -> str:
    """Say how many normalizations there are, of which kinds, and how many fold."""
    if not report.layers:
        return "no normalizations"
    kinds = Counter(layer.op for layer in report.layers)
    listed = ", ".join(f"{count} {op}" for op, count in kinds.most_common())
    training = sum(layer.mode == "training" for layer in report.layers)
    told = f", {training} in training mode" if training else ""
    return f"{listed}: {report.foldable} foldable{told}"


def fate(layer: InspectedLayer) -> tuple[str, ...]:
    """Return the cells of a normalization, the last of which says what a fold would do."""
    fold: str = layer.fold
    if layer.fold == "foldable" and layer.because:
        fold = f"foldable into {layer.because}"
    elif layer.fold == "kept" and layer.reason is not None:
        fold = f"{layer.reason.value}: {layer.because}"
    groups = "" if layer.groups is None else f" / {layer.groups}"
    return (
        place_of(layer),
        layer.op,
        ("?" if layer.channels is None else str(layer.channels)) + groups,
        "" if layer.epsilon is None else f"{layer.epsilon:.2g}",
        layer.mode,
        layer.fed_by,
        ", ".join(layer.read_by),
        fold,
    )


def lint_summary(report: LintReport) -> str:
    """Say how much was found in how many models, and what of it a fix removes."""
    looked = [model for model in report.models if not model.error]
    counts = Counter(finding.level for finding in report.findings)
    parts = (_counted(counts[level], level) for level in ("error", "warning", "note"))
    listed = ", ".join(filter(None, parts))
    among = _counted(len(looked), "model")
    said = f"{listed} in {among}" if counts else f"no findings in {among or 'any model'}"
    fixed = sum(model.fixed for model in report.models)
    said += f"; {fixed} fixed" if fixed else ""
    said += f"; {report.fixable} fixable with --fix" if report.fixable else ""
    failed = len(report.models) - len(looked)
    return said + (f"; {_counted(failed, 'model')} could not be read" if failed else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}" if count else ""


def diff_summary(report: DiffReport) -> str:
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

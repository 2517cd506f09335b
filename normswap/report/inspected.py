"""What a model is, in words that every format uses."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from normswap.findings import place_of

if TYPE_CHECKING:
    from normswap.inspection.layers import InspectedLayer
    from normswap.inspection.size import Work
    from normswap.workflows.inspect import InspectReport

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

"""What a swap did, how far it moved the network, and what calibration won back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from normswap.report.pages.check import number
from normswap.report.pages.neighbourhood import PicturedPlace
from normswap.report.pages.page import (
    Figure,
    Items,
    Name,
    Page,
    Plot,
    Series,
    section,
    table,
)
from normswap.report.pages.rewrites import (
    along,
    channels,
    heading,
    kept,
    pictures,
    rewrite,
    site,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.report.pages.neighbourhood import Role
    from normswap.report.pages.page import Block, Cell
    from normswap.report.wiring import Wiring


def page(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    """Return the page of a swap."""
    plan = report.plan
    done: list[Block] = [
        pictures(list(map(_place, plan.swaps)), ("normalization", "becomes"), wirings),
        _layers(report),
    ]
    counts = [("swapped", str(len(plan.swaps))), ("kept", str(len(plan.untouched)))]
    if report.unfolded:
        counts.append(("put back first, as identities", str(report.unfolded)))
    if report.accuracy is not None:
        found = report.accuracy
        held_out = report.fit is not None and not report.evaluated
        what = "accuracy on held-out samples" if held_out else "accuracy"
        told = f"{found.original:.1%} → {found.swapped:.1%}"
        if found.left_out:
            told += f", {found.left_out} other labels name no class"
        counts.append((what, told))
    drift = _drift(report)
    lead = "A swapped network is a different function from the original, so drift is not an error."
    if drift and report.check is not None and not report.check.drift.own:
        lead += " It was measured on random inputs, and does not tell the accuracy."
    if report.uncalibrated is not None:
        lead += " A fit brings the outputs closer; layers in between may move further away."
    return rewrite(
        report,
        "swap",
        tuple(counts),
        [
            *section(heading(report), done),
            *section("How the groups were chosen", _regrouping(report)),
            *section("Drift from the original", drift, lead),
            *section("Calibration", _fit(report)),
            *section("Weights for torch", _weights(report)),
            *section("What was kept, and why", [kept(plan.untouched)]),
        ],
    )


def _place(swap: Any) -> PicturedPlace:
    gone = (swap.site, *swap.absorbed)
    names: dict[tuple[str, str], Role] = {(each.graph, each.node): "gone" for each in gone}
    went = swap.statistics
    way = along(swap.site, went.route) if went is not None else {}
    return PicturedPlace({**way, **names}, ((site(swap.site).text, swap.form),))


def _layers(report: Any) -> Any:
    rows = []
    for swap in report.plan.swaps:
        went, where = swap.statistics, ""
        if went is not None:
            where = ", ".join(step.node for step in went.absorbers) or went.detail
            where += f"; {went.added_nodes} new operators" if went.added_nodes else ""
        rows.append(
            (
                site(swap.site),
                channels(swap.site),
                Figure(str(swap.num_groups), swap.num_groups),
                f"{swap.form}+{swap.activation}" if swap.activation else swap.form,
                swap.why,
                where,
            )
        )
    columns = (
        "normalization",
        "channels",
        "groups",
        "form",
        "because",
        "mean and variance moved into",
    )
    return table("Each normalization that was swapped", columns, rows)


def _drift(report: Any) -> list[Block]:
    if report.check is None:
        return []
    before = report.uncalibrated
    after = report.check.drift
    blocks: list[Block] = []
    names = tuple(after.layers)
    if len(names) > 1:
        series = [Series("swapped", _snr(after.layers, names))]
        if before is not None:
            series = [
                Series("swapped", _snr(before.layers, names)),
                Series(report.stage, _snr(after.layers, names)),
            ]
        known = [value for value in series[-1].values if value is not None]
        told = (
            f"From {min(known):.1f} to {max(known):.1f} dB; higher is closer to the original."
            if known
            else ""
        )
        caption = "Signal-to-noise ratio of each layer against the original: higher is closer"
        blocks.append(Plot(caption, "dB", names, tuple(series), told=told))
    rows: list[tuple[Cell, ...]] = []
    for what, found in (("output", after.outputs), ("layer", after.layers)):
        old = getattr(before, f"{what}s", {}) if before is not None else {}
        for name, drift in found.items():
            was = (number(old[name].snr if name in old else None, ".1f", " dB"),) * bool(before)
            agreed = "" if drift.top1 is None else f"{drift.top1:.1%} of {drift.samples}"
            snr = number(drift.snr, ".1f", " dB")
            rows.append((Name(name), what, number(drift.cosine, ".4f"), *was, snr, agreed))
    columns = ["tensor", "what", "cosine", "SNR", "same top class"]
    if before is not None:
        columns[3:4] = ["SNR, swapped", f"SNR, {report.stage}"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    blocks.append(table("Drift of each output and layer", columns, rows))
    others: list[tuple[Cell, ...]] = [
        (Name(name), f"{found.same} of {found.values} values are equal")
        for name, found in after.agreement.items()
    ]
    others += [(Name(name), f"left out: {why}") for name, why in after.left_out.items()]
    alone = table(
        "The same sample alone and in a batch",
        ("output", "difference", "largest value"),
        (
            (Name(o.output), number(o.max_error, ".1e"), number(o.largest, ".3g"))
            for o in report.check.invariance
        ),
    )
    return [*blocks, table("Outputs of other types", ("output", ""), others), alone]


def _snr(found: Any, names: Sequence[str]) -> tuple[float | None, ...]:
    values = (found[name].snr if name in found else math.nan for name in names)
    return tuple(value if math.isfinite(value) else None for value in values)


def _fit(report: Any) -> list[Block]:
    fit = report.fit
    if fit is None:
        return []
    gains = tuple(step.after - step.before for step in fit.steps)
    layers = tuple(f"{step.layer} ({step.kind})" for step in fit.steps)
    finite = tuple(gain if math.isfinite(gain) else None for gain in gains)
    blocks: list[Block] = [
        Items((f"Fitted on {fit.fitted} samples, judged on {fit.held_out} held-out samples.",))
    ]
    if len(gains) > 1:
        caption = "Improvement by each fit, on held-out samples"
        told = f"{sum(gain for gain in finite if gain is not None):.1f} dB in total."
        blocks.append(Plot(caption, "dB", layers, (Series("gain", finite),), told=told))
    columns = ("layer", "fitted", "before", "after", "same top class")
    blocks += [
        table(
            "Each step, in order",
            columns,
            (
                (
                    Name(step.layer),
                    step.kind,
                    number(step.before, ".1f", " dB"),
                    number(step.after, ".1f", " dB"),
                    number(step.agreement, ".1%"),
                )
                for step in fit.steps
            ),
        ),
        table(
            "Layers whose weights were not fitted",
            ("layer", "because"),
            ((Name(entry.layer), entry.why) for entry in fit.unfitted),
        ),
    ]
    return blocks


def _regrouping(report: Any) -> list[Block]:
    if report.regrouping is None:
        return []
    layers = report.regrouping.layers
    return [
        table(
            "Each layer whose channels could be permuted",
            ("normalization", "channels moved", "compared by", "change of group statistics", "but"),
            (
                (
                    site(layer.site),
                    Figure(str(layer.moved), layer.moved),
                    layer.by,
                    number(layer.after / layer.before - 1 if layer.before > 0 else None, "+.0%"),
                    layer.detail,
                )
                for layer in layers
            ),
        )
    ]


def _weights(report: Any) -> list[Block]:
    made = report.state_dict
    if made is None:
        return []
    missing = ((Name(entry.name), entry.why) for entry in made.unmapped)
    told = f"{made.tensors} tensors in `{made.file}`"
    return [Items((told,)), table("Parameters that are missing", ("name", "because"), missing)]

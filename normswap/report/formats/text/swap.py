"""What bn-to-gn and its special cases did."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from rich.markup import escape

from normswap.findings import place_of
from normswap.groupnorm.drift import LEAST_SAMPLES
from normswap.report.formats.text.console import (
    SHOWN,
    UNCHECKED,
    kept_table,
    print_check,
    print_notes,
    print_written,
)
from normswap.report.formats.text.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from normswap.groupnorm.plan import Statistics, SwapPlan
    from normswap.groupnorm.refit.outcome import Fit, Searched
    from normswap.groupnorm.regroup.regroup import Regrouped, Regrouping
    from normswap.groupnorm.state_dict import StateDict
    from normswap.workflows.sameness import Sameness
    from normswap.workflows.swap_check import SwapCheck
    from normswap.workflows.swap_report import SwapReport


def swap(report: SwapReport, console: Console, verbose: int) -> None:
    """Print what bn-to-gn and its special cases did; from `verbose` 1 on every layer is listed."""
    verbose = max(verbose, 0)
    plan = report.plan
    console.print(f"[bold]{escape(report.source)}[/]  {_headline(plan)}")
    if report.unfolded:
        console.print(f"  {report.unfolded} of them were put back first, as identities")
    if plan.swaps:
        console.print()
        console.print(_layers(report) if verbose else _forms(plan))
    if report.separation is not None:
        console.print()
        which = "without functions" if report.inlined else "with a function for each width"
        _print_same(f"the network {which}", report.separation, console)
    if report.regrouping is not None:
        console.print()
        console.print(_groups(report.regrouping, verbose=verbose))
        _print_same("the permuted network", report.permutation, console)
    if any(swap.statistics for swap in plan.swaps):
        console.print()
        console.print(_statistics(plan, verbose=verbose))
        _print_same("the normalized network", report.normalization, console)
    if any(swap.absorbed for swap in plan.swaps):
        console.print()
        console.print(_absorbed(plan, verbose=verbose))
    if plan.untouched:
        console.print()
        console.print(kept_table(plan.untouched, verbose))
    console.print()
    if report.check is not None:
        _check(report.check, console, verbose=verbose)
        _drift(report, console)
        console.print()
        if report.fit is not None:
            _fit(report.fit, console, verbose=verbose)
            console.print()
    elif report.output and plan.swaps:
        console.print(UNCHECKED)
    if report.accuracy is not None:
        found = report.accuracy
        held = " of the held-out samples" if report.fit and not report.evaluated else ""
        console.print(
            f"accuracy of output {escape(found.output)}, on {found.labels} labels{held}: original "
            f"{found.original:.1%}, swapped {found.swapped:.1%}"
        )
        if found.left_out:
            console.print(f"  {found.left_out} other labels name no class of it")
        console.print()
    print_notes(report.notes, console)
    if report.state_dict is not None and report.written:
        _weights(report.state_dict, console, verbose=verbose)
    print_written(report, console)


def _print_same(what: str, same: Sameness | None, console: Console) -> None:
    """Print how it is known that a network is the original."""
    if same is not None:
        how = f"{same.verdict.value}, {'proved' if same.proved else 'tested'}"
        console.print(f"  {what}, compared with the original: {how}")


def _headline(plan: SwapPlan) -> str:
    if not plan.total:
        return "no BatchNormalization found"
    absorbed, kept = plan.absorbed_batchnorms, len(plan.untouched)
    line = f"{plan.total} BatchNormalization: [green]{len(plan.swaps)} swapped[/]"
    line += f", [green]{absorbed} absorbed[/]" if absorbed else ""
    return line + (f", [yellow]{kept} kept[/]" if kept else "")


def _forms(plan: SwapPlan) -> Listing:
    table = Listing("swapped", "groups", "form", "because")
    kinds = Counter((swap.num_groups, swap.form, swap.why) for swap in plan.swaps)
    for (groups, form, why), count in kinds.most_common():
        table.add_row(str(count), str(groups), form, escape(why))
    return table


def _groups(found: Regrouping, *, verbose: int) -> Listing:
    """List what was done for the groups: which layers have others, and what they vary by."""
    what = {"data": "on the data", "weights": "by the weights", "": ""}
    if verbose:
        table = Listing("regrouped", "channels moved", "variation of groups", "but")
        for layer in found.layers:
            less = f"{1 - layer.after / layer.before:.0%} less " if layer.before > 0 else ""
            cells = (place_of(layer.site), str(layer.moved))
            table.add_row(*map(escape, (*cells, less + what[layer.by], layer.detail)))
        return table
    table = Listing("regrouped", "variation of groups", "because")
    kinds: dict[tuple[str, str, bool], list[Regrouped]] = {}
    for layer in found.layers:
        why = layer.detail if layer.reason is None else layer.reason.value
        kinds.setdefault((what[layer.by], why, layer.moved > 0), []).append(layer)
    for (by, why, moved), layers in kinds.items():
        before, after = sum(each.before for each in layers), sum(each.after for each in layers)
        less = f"{1 - after / before:.0%} less {by}" if moved and before > 0 else "unchanged"
        table.add_row(str(len(layers)), less, escape(why))
    return table


def _statistics(plan: SwapPlan, *, verbose: int) -> Listing:
    """List where the statistics went of what was normalized first."""
    layers = [(swap.site, swap.statistics) for swap in plan.swaps if swap.statistics is not None]
    if verbose:
        table = Listing("normalized first", "mean and variance", "")
        for site, went in layers:
            nodes = ", ".join(dict.fromkeys(step.node for step in went.absorbers))
            cells = (place_of(site), _where(went), nodes or went.detail)
            table.add_row(*map(escape, cells))
        return table
    table = Listing("normalized first", "mean and variance", "because")
    kinds = Counter(
        (_where(went), went.reason.value if went.reason else went.detail) for _, went in layers
    )
    for (where, why), count in kinds.most_common():
        table.add_row(str(count), where, escape(why))
    return table


def _where(statistics: Statistics) -> str:
    """Say where statistics went, without names."""
    ops = " and ".join(dict.fromkeys(step.op for step in statistics.absorbers))
    if not statistics.normalized:
        return "left out"
    if not statistics.added_nodes:
        return f"in the {ops} before" if ops else "nothing to move"
    added = "a Mul and an Add" if statistics.added_nodes == 2 else "one more operator"
    return f"{added}, and the {ops} before" if ops else added


def _layers(report: SwapReport) -> Listing:
    plan, check = report.plan, report.check
    proof = None if check is None else check.proof
    regions = {} if proof is None else {region.tensor: region for region in proof.regions}
    before = report.uncalibrated.layers if report.uncalibrated else {}
    after = check.drift.layers if check else {}
    columns = ["swapped", "channels", "groups", "form", "because"]
    if check is not None:
        columns[-1:] = ["proved by", "SNR vs. original"]
    table = Listing(*columns)
    for swap in plan.swaps:
        output = swap.layer.y
        where = place_of(swap.site)
        region, drift = regions.get(output), after.get(output)
        cells = [
            where,
            str(swap.site.channels or "?"),
            str(swap.num_groups),
            f"{swap.form}+{swap.activation}" if swap.activation else swap.form,
        ]
        if check is None:
            cells.append(swap.why)
        else:
            old = before.get(output)
            told = "" if drift is None else f"{drift.snr:.1f} dB"
            if old is not None and drift is not None:
                told = f"{old.snr:.1f} → {told}"
            means = None if region is None else region.means
            cells += ["" if means is None else means.value, told]
        table.add_row(*map(escape, cells))
    return table


def _absorbed(plan: SwapPlan, *, verbose: int) -> Listing:
    """List what went into the affine of another layer."""
    table = Listing("absorbed", "node", "into scale and bias of")
    rows = [(site, swap.site) for swap in plan.swaps for site in swap.absorbed]
    cells = [(site.op, escape(place_of(site)), escape(place_of(by))) for site, by in rows]
    table.add_rows(cells, None if verbose else SHOWN)
    return table


def _check(check: SwapCheck, console: Console, *, verbose: int) -> None:
    """Print the verdict, and what a batch does to a sample."""
    print_check(check, console, check.finding, verbose)
    for output in check.invariance:
        error = output.max_error
        told = f"differs by at most {error:.1e}" if error else "the same to the last bit"
        console.print(
            f"  output {escape(output.output)}, same sample alone and in a batch: {told} "
            f"(largest value {output.largest:.3g})"
        )


def _known(figure: float, form: str, unit: str = "") -> str:
    return "unknown" if math.isnan(figure) else f"{figure:{form}}{unit}"


def _drift(report: SwapReport, console: Console) -> None:
    check = report.check
    if check is None:
        return
    found = check.drift
    if not (found.outputs or found.layers or found.agreement or found.left_out):
        return
    console.print()
    measured = "" if check.drift.own else ", on random inputs"
    if check.drift.own and report.uncalibrated is not None:
        unseen = "the held-out samples, by which the fits were chosen"
        measured = f", on {'the --evaluate data' if report.evaluated else unseen}"
    console.print(
        "drift from the original network (expected, since a swap makes a different "
        f"function){measured}:"
    )
    scores = any(drift.top1 is not None for drift in check.drift.outputs.values())
    table = Listing("", "", "cosine", "SNR", *["same top class"] * scores)
    before = report.uncalibrated.outputs if report.uncalibrated else {}
    for name, drift in check.drift.outputs.items():
        stages = [("swapped", before[name]), (report.stage, drift)] if name in before else []
        for number, (stage, figures) in enumerate(stages or [("", drift)]):
            agreed = (
                ""
                if figures.top1 is None
                else f"{figures.top1:.1%} ({round(figures.top1 * figures.samples)} "
                f"of {figures.samples} samples)"
            )
            table.add_row(
                "" if number else f"output {escape(name)}",
                stage,
                _known(figures.cosine, ".4f"),
                _known(figures.snr, ".1f", " dB"),
                *[agreed] * scores,
            )
    if check.drift.outputs:
        console.print(table)
    layers = check.drift.layers
    if layers and not (check.drift.own and check.drift.outputs):
        lowest = min(layers, key=lambda name: layers[name].snr)
        best = _known(max(drift.snr for drift in layers.values()), ".1f")
        least = f"{_known(layers[lowest].snr, '.1f')} dB, least in {escape(lowest)}"
        console.print(f"  SNR of the layers: {best} to {least}; -v lists each")
    for name, same in found.agreement.items():
        share = f"{same.same / max(same.values, 1):.1%} ({same.same} of {same.values})"
        console.print(f"  output {escape(name)}: {share} of its values are equal")
    for name, why in found.left_out.items():
        console.print(f"  output {escape(name)} is left out: {escape(why)}")
    if not check.drift.own:
        console.print("  no accuracy was measured, and drift on random inputs does not tell it")
        return
    if not scores and any(drift.samples for drift in check.drift.outputs.values()):
        console.print(
            f"  with fewer than {LEAST_SAMPLES} samples, agreement of the top class is not reported"
        )
    if report.uncalibrated is not None and not report.calibrated and report.fit is None:
        console.print("  no fit helped on held-out samples, so nothing was changed by it")


def _weights(found: StateDict, console: Console, *, verbose: int) -> None:
    """Say what was written for torch, and what its module must be like."""
    count = len(found.groups)
    norms = (
        f"{count} {'GroupNorm' if count == 1 else 'GroupNorms'} with the names of the BatchNorms"
    )
    console.print(f"weights for torch, {escape(found.file)}: {found.tensors} tensors, {norms}")
    lists = (
        (
            "GroupNorms still have running_mean and running_var, to normalize with first",
            found.fixed,
        ),
        ("biases were added to layers without one", found.added),
        ("keys of the original are missing", found.absent),
    )
    for what, names in lists:
        if names:
            console.print(f"  {len(names)} {what}: {escape(_listed(names, verbose))}")
    shown = found.unmapped if verbose else found.unmapped[:SHOWN]
    for entry in shown:
        console.print(f"  [yellow]missing: {escape(entry.name)}[/], because {escape(entry.why)}")
    if len(shown) < len(found.unmapped):
        console.print(f"  [yellow]and {len(found.unmapped) - len(shown)} more[/], -v lists all")
    console.print()


def _fit(fit: Fit, console: Console, *, verbose: int) -> None:
    """Say which layers were fitted, and what each step brought on held-out samples."""
    console.print(
        f"least squares on {fit.fitted} samples; SNR of the outputs vs. the original, on "
        f"{fit.held_out} held-out samples:"
    )
    if fit.steps:
        table = Listing("fitted", "layer", "SNR", "same top class")
        shown = fit.steps if verbose or len(fit.steps) <= SHOWN else fit.steps[-SHOWN:]
        if len(shown) < len(fit.steps):
            more = len(fit.steps) - len(shown)
            table.add_row("", f"{more} earlier step{'s' * (more != 1)}", "", "")
        for step in shown:
            agreed = "" if step.agreement is None else f"{step.agreement:.1%}"
            told = f"{step.before:.1f} → {step.after:.1f} dB"
            table.add_row(step.kind, escape(step.layer), told, agreed)
        console.print(table)
    if fit.searched is not None:
        console.print(f"  {_searched(fit.searched)}")
    by_reason: dict[str, list[str]] = {}
    for entry in fit.unfitted:
        by_reason.setdefault(entry.why, []).append(entry.layer)
    for why, layers in by_reason.items():
        console.print(f"  not fitted, because {escape(why)}: {escape(_listed(layers, verbose))}")


def _searched(found: Searched) -> str:
    """Say what other numbers of groups are worth."""
    kept = f"; {found.kept} whose tensors can't be read keep theirs" if found.kept else ""
    if found.found is None:
        return f"no other numbers of groups fit layers better{kept}"
    taken = "taken" if found.found > found.asked else "not taken"
    return (
        f"with the numbers of groups that fit each layer best {found.found:.1f} dB, with those "
        f"that were asked for {found.asked:.1f} dB: {taken}{kept}"
    )


def _listed(names: Sequence[str], verbose: int) -> str:
    """Name some, or all."""
    more = 0 if verbose else max(len(names) - SHOWN, 0)
    return ", ".join(names[: len(names) - more]) + (f" and {more} more" if more else "")

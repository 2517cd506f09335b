"""Fold normalizations along the cheapest complete route of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Down, Goal, Up
from normswap.folding.edits import Bypass
from normswap.folding.plan import Attempt, Folded, Kept
from normswap.folding.route import RouteOutcome, Router
from normswap.graph.affine import Affine
from normswap.graph.reasons import OF_NUMBERS, Block, Blocked, Reason
from normswap.graph.removal import removal_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.folding.draft import Draft
    from normswap.folding.record import Record
    from normswap.graph.network import Graph
    from normswap.graph.normalization import Normalization


def fold_along_routes(draft: Draft, graph: Graph) -> bool:
    """Fold what is left in a graph, each as far as it goes by itself.

    The last one goes first. So what goes up meets the one before it and is taken in there, and no
    way is gone by all that are behind it: a row of n costs n steps, and not their square.
    """
    start = draft.mark()
    last_first = draft.left(graph)[::-1]
    # A BatchNormalization goes into arithmetic before it, and not vice versa.
    for record in sorted(last_first, key=lambda record: not record.whole.is_batchnorm):
        fold(draft, record)
    return bool(draft.since(start))


def fold(draft: Draft, record: Record) -> None:
    """Fold one normalization, and note along which route, or why it is kept."""
    normalization = record.whole.present()
    if normalization is None:
        # A route of another one has taken it apart. What was rewritten before is told all the
        # same, as it was: by then it is no normalization of the model any more.
        if record.told is None:
            draft.enter(record, fate=None)
        return
    try:
        affine = normalization.affine()
    except Blocked as refusal:
        _keep(draft, record, refusal.block)
        return
    attempts: list[Attempt] = []
    best: tuple[list[Goal], RouteOutcome] | None = None
    mark = draft.mark()
    for direction, goals in _candidates(normalization, affine, only_up=draft.only_up):
        outcome = _carried_out(draft, normalization, goals)
        block = outcome.block
        if block is not None:
            attempts.append(
                Attempt(direction, block.reason, block.tensor, block.detail, outcome.steps)
            )
        elif best is None or outcome.cost < best[1].cost:
            best = (goals, outcome)
        if block is None and outcome.cost == 0:
            break
        draft.rollback(mark)
    if best is None:
        # Where only the numbers were in the way of a direction, that is what there is to know.
        numbers = (attempt for attempt in attempts if attempt.reason in OF_NUMBERS)
        first = next(numbers, attempts[0])
        block = Block(first.reason, first.tensor, first.detail)
        if normalization.is_batchnorm and affine.ndim > 2:
            block = Block(
                Reason.PER_ACTIVATION,
                first.tensor,
                f"its statistics are per activation (spatial=0), and {first.detail}",
            )
        _keep(draft, record, block, tuple(attempts))
        return
    goals, outcome = best
    if outcome.cost:  # it was taken back, to look for a cheaper one
        _carried_out(draft, normalization, goals)
    draft.enter(record, fate=Folded(record.site, outcome.steps, outcome.cost))


def _carried_out(draft: Draft, normalization: Normalization, goals: list[Goal]) -> RouteOutcome:
    """Reach all goals and take the normalization out, or say what blocks that."""
    outcome, name = Router(draft).solve(goals), normalization.result.name
    block = outcome.block or removal_block(normalization.chain)
    dear = not normalization.is_batchnorm and outcome.cost >= len(normalization.chain)
    if block is None and dear:
        block = Block(Reason.COST, name, f"folding {name} would add as many nodes as it removes")
    if block is None:
        draft.commit(Bypass(use.node.key, use.slot) for use in reversed(normalization.chain))
        block = draft.outgrown(name)
    return RouteOutcome(outcome.steps, block, outcome.cost)


def _keep(draft: Draft, record: Record, block: Block, attempts: tuple[Attempt, ...] = ()) -> None:
    entry = Kept(record.site, block.reason, block.tensor, block.detail, attempts)
    draft.enter(record, fate=record.told or entry)


def _candidates(
    normalization: Normalization, affine: Affine, *, only_up: bool
) -> Iterator[tuple[str, list[Goal]]]:
    """Yield the ways that an affine can go, the preferred one first.

    All the way up or down; or in two parts, of which the one that goes down is applied last:
    ``y = s*x + t`` is x scaled, then shifted, and (where no s is 0) x shifted by t/s, then scaled.
    """
    source, result = normalization.source, normalization.result
    yield "up", [Up(source, affine)]
    if only_up:
        return
    yield "down", [Down(result, affine)]
    if not (affine.has_scale and affine.has_shift):
        return
    yield (
        "scale up, shift down",
        [Up(source, affine.scale_only()), Down(result, affine.shift_only())],
    )
    if (affine.scale != 0).all():
        scale, shift = affine.at(affine.ndim)
        before = Affine(np.ones(()), shift / scale)
        if before.is_finite:
            yield "shift up, scale down", [Up(source, before), Down(result, affine.scale_only())]

"""Plan a fold: find every normalization of a model, and the cheapest complete route for each.

The planner is pure. It works on a mirror of the model's graphs and returns a :class:`Plan`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from normswap.affine import Affine
from normswap.answers import Block, Down, Goal, Up
from normswap.branches import Merger
from normswap.draft import Draft, takes_name
from normswap.edits import Bypass
from normswap.graph import build_network
from normswap.normalization import normalizations
from normswap.plan import Attempt, Folded, Kept, Plan
from normswap.reasons import Reason
from normswap.route import Outcome, Router

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.model import Model
    from normswap.normalization import Normalization


def make_plan(model: Model, *, assume_constant: bool = False, merge_branches: bool = False) -> Plan:
    """Decide for every normalization of a model whether and how it is folded.

    Parameters
    ----------
    model : Model
        Is not changed.
    assume_constant : bool
        Fold initializers that are also graph inputs, which a caller could override. Up to IR
        version 3 they are constants in any case.
    merge_branches : bool
        Merge parallel branches into one Conv everywhere, not only where that removes a
        normalization.

    Returns
    -------
    Plan
        Every BatchNormalization of the main graph, of subgraphs and functions is in it once, and
        so is every chain of arithmetic that is one (:mod:`normswap.decomposed`).
    """
    network = build_network(model, assume_constant=assume_constant)
    planner = _Planner(Draft(network))
    for graph in network.graphs:
        planner.fold(list(normalizations(graph)))
        if merge_branches:
            planner.merger.merge_everywhere(graph)
    return Plan(
        model.fingerprint(),
        tuple(planner.folded.values()),
        tuple(entry for key, entry in planner.kept.items() if key not in planner.uncertain),
        planner.merger.report(),
        tuple(planner.draft.edits),
    )


class _Planner:
    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.router = Router(draft)
        self.merger = Merger(draft, self.router)
        self.folded: dict[int, Folded] = {}
        self.kept: dict[int, Kept] = {}
        self.uncertain: set[int] = set()  # count only if they fold

    def fold(self, found: Sequence[Normalization]) -> None:
        """Fold what was found in a graph, again as long as that may help what was kept.

        Branches are merged last: what is left of them then is simplest.
        """
        # Each by itself, a BatchNormalization goes into arithmetic before it and not vice versa.
        pending = sorted(found, key=lambda normalization: not normalization.is_batchnorm)
        self.uncertain.update(n.key for n in pending if not n.certain)
        while pending:
            before = len(self.folded)
            for attempt in (self._fold, self._merge):
                for normalization in pending:
                    attempt(normalization)
                if len(self.folded) > before:
                    break
            else:
                return
            pending = [n for n in pending if n.key in self.kept]

    def _fold(self, whole: Normalization) -> None:
        """Fold a normalization along the cheapest complete route."""
        self.kept.pop(whole.key, None)
        normalization = whole.present()
        if normalization is None:
            return  # a route of another one has taken it apart
        affine = normalization.affine()
        if isinstance(affine, Block):
            self._keep(normalization, affine, ())
            return
        attempts: list[Attempt] = []
        best: tuple[list[Goal], Outcome] | None = None
        mark = self.draft.mark()
        for direction, goals in _candidates(normalization, affine):
            outcome = self.router.solve(goals)
            block = outcome.block or _bypass_block(normalization)
            if block is None and outcome.cost >= len(normalization.chain) > 1:
                detail = f"{normalization.result.name} would cost as many nodes as it has"
                block = Block(Reason.COST, normalization.result.name, detail)
            if block is not None:
                self.draft.rollback(mark)
                attempts.append(
                    Attempt(direction, block.reason, block.tensor, block.detail, outcome.steps)
                )
                continue
            if best is None or outcome.cost < best[1].cost:
                best = (goals, outcome)
            if outcome.cost == 0:
                break
            self.draft.rollback(mark)
        if best is None:
            first = attempts[0]
            block = Block(first.reason, first.tensor, first.detail)
            self._keep(normalization, block, tuple(attempts))
            return
        goals, outcome = best
        if outcome.cost:  # it was taken back, to look for a cheaper one
            self.draft.rollback(mark)
            self.router.solve(goals)
        self.draft.commit(Bypass(use.node.key, use.slot) for use in reversed(normalization.chain))
        site = normalization.site()
        self.folded[whole.key] = Folded(site, outcome.steps, outcome.cost)

    def _merge(self, whole: Normalization) -> None:
        """Merge a normalization that found no route into a Conv beside it."""
        entry, normalization = self.kept.get(whole.key), whole.present()
        affine = None if normalization is None else normalization.affine()
        if entry is None or normalization is None or not isinstance(affine, Affine):
            return
        site = normalization.site()
        route = self.merger.absorb(normalization, affine)
        if isinstance(route, Block):
            if route.reason is not Reason.NO_SUM:
                attempt = Attempt("beside", route.reason, route.tensor, route.detail)
                known = tuple(a for a in entry.attempts if a.direction != "beside")
                self.kept[whole.key] = replace(entry, attempts=(*known, attempt))
            return
        del self.kept[whole.key]
        self.folded[whole.key] = Folded(site, route)

    def _keep(
        self, normalization: Normalization, block: Block, attempts: tuple[Attempt, ...]
    ) -> None:
        self.kept[normalization.key] = Kept(
            normalization.site(), block.reason, block.tensor, block.detail, attempts
        )


def _bypass_block(normalization: Normalization) -> Block | None:
    """Say why a normalization can't be taken out, or None if it can.

    Its output must keep its name where the graph's caller or a subgraph knows it, and then it must
    be possible to give that name to its input.
    """
    node, slot = normalization.source
    value, result = node.inputs[slot], normalization.result
    if value is None or takes_name(value, node):
        return None
    if result.is_output:
        return Block(Reason.GRAPH_OUTPUT, result.name, f"{result.name} is an output")
    return None


def _candidates(normalization: Normalization, affine: Affine) -> Iterator[tuple[str, list[Goal]]]:
    """Yield the ways that an affine can go, the preferred one first.

    All the way up or down; or in two parts, of which the one that goes down is applied last:
    ``y = s*x + t`` is x scaled, then shifted, and (where no s is 0) x shifted by t/s, then scaled.
    """
    source, result = normalization.source, normalization.result
    yield "up", [Up(source, affine)]
    yield "down", [Down(result, affine)]
    if not (affine.has_scale and affine.has_shift):
        return
    yield (
        "scale up, shift down",
        [Up(source, affine.scale_only()), Down(result, affine.shift_only())],
    )
    if (affine.scale != 0).all():
        before = Affine(np.ones(()), affine.shift / affine.scale)
        if before.is_finite:
            yield "shift up, scale down", [Up(source, before), Down(result, affine.scale_only())]

"""Plan a fold: find every normalization of a model, and the cheapest complete route for each.

The planner is pure. It works on a mirror of the model's graphs and returns a :class:`Plan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.affine import Affine
from normswap.answers import Block, Down, Goal, Up
from normswap.batchnorm import affine_of
from normswap.draft import Draft, takes_name
from normswap.edits import Bypass
from normswap.graph import Node, Use, build_network
from normswap.plan import Attempt, Folded, Kept, Plan, Site
from normswap.reasons import Reason
from normswap.route import Outcome, Router

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.model import Model


def make_plan(model: Model, *, assume_constant: bool = False) -> Plan:
    """Decide for every BatchNormalization of a model whether and how it is folded.

    Parameters
    ----------
    model : Model
        Is not changed.
    assume_constant : bool
        Fold initializers that are also graph inputs, which a caller could override. Up to IR
        version 3 they are constants in any case.

    Returns
    -------
    Plan
        Every BatchNormalization of the main graph, of subgraphs and functions is in it once.
    """
    network = build_network(model, assume_constant=assume_constant)
    planner = _Planner(Draft(network))
    for graph in network.graphs:
        planner.fold([node for node in graph.topological() if is_batchnorm(node)])
    return Plan(
        model.fingerprint(),
        tuple(planner.folded.values()),
        tuple(planner.kept.values()),
        tuple(planner.draft.edits),
    )


def is_batchnorm(node: Node) -> bool:
    """Whether a node is a BatchNormalization of the default domain."""
    return node.op == "BatchNormalization" and not node.domain


def site_of(node: Node) -> Site:
    """Describe a normalization of the model."""
    scale = node.input(1)
    channels = scale.shape[0] if scale and scale.shape and isinstance(scale.shape[0], int) else None
    output = next((value.name for value in node.outputs if value), "")
    return Site(node.title, node.op, output, node.graph.path, channels)


class _Planner:
    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.router = Router(draft)
        self.folded: dict[int, Folded] = {}
        self.kept: dict[int, Kept] = {}

    def fold(self, nodes: Sequence[Node]) -> None:
        """Fold the nodes of a graph, again as long as what was folded may help what was kept."""
        pending = list(nodes)
        while pending:
            before = len(self.folded)
            for node in pending:
                self._fold_one(node)
            pending = [node for node in pending if node.key in self.kept]
            if len(self.folded) == before:
                return

    def _fold_one(self, node: Node) -> None:
        self.kept.pop(node.key, None)
        site = site_of(node)
        affine = affine_of(node)
        if isinstance(affine, Block):
            self.kept[node.key] = Kept(site, affine.reason, affine.tensor, affine.detail)
            return
        attempts: list[Attempt] = []
        best: tuple[list[Goal], Outcome] | None = None
        mark = self.draft.mark()
        for direction, goals in _candidates(node, affine):
            outcome = self.router.solve(goals)
            block = outcome.block or _bypass_block(node)
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
            self.kept[node.key] = Kept(
                site, first.reason, first.tensor, first.detail, tuple(attempts)
            )
            return
        goals, outcome = best
        if outcome.cost:  # it was taken back, to look for a cheaper one
            self.draft.rollback(mark)
            self.router.solve(goals)
        self.draft.commit([Bypass(node.key)])
        self.folded[node.key] = Folded(site, outcome.steps, outcome.cost)


def _bypass_block(node: Node) -> Block | None:
    """Say why a node can't be taken out, or None if it can.

    Its output must keep its name where the graph's caller or a subgraph knows it, and then it must
    be possible to give that name to its input.
    """
    value, result = node.inputs[0], node.out
    if value is None or takes_name(value, node):
        return None
    if result.is_output:
        return Block(Reason.GRAPH_OUTPUT, result.name, f"{result.name} is an output")
    return None


def _candidates(node: Node, affine: Affine) -> Iterator[tuple[str, list[Goal]]]:
    """Yield the ways that an affine can go, the preferred one first.

    All the way up or down; or in two parts, of which the one that goes down is applied last:
    ``y = s*x + t`` is x scaled, then shifted, and (where no s is 0) x shifted by t/s, then scaled.
    """
    source = Use(node, 0)
    result = node.out
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

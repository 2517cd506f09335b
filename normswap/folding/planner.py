"""Plan a fold: find every normalization of a model, and the cheapest complete route for each.

The planner is pure. It works on a mirror of the model's graphs and returns a :class:`Plan`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from normswap.folding.draft import Draft
from normswap.folding.functions import Library
from normswap.folding.growth import copied
from normswap.folding.passes.branches import merge_everywhere
from normswap.folding.passes.calls import fold_calls
from normswap.folding.passes.finding import find
from normswap.folding.passes.gathering import gather
from normswap.folding.passes.joining import join
from normswap.folding.passes.leftovers import rewrite
from normswap.folding.passes.merging import merge_beside
from normswap.folding.passes.routes import fold_along_routes
from normswap.folding.passes.storing import store
from normswap.folding.passes.straightening import straighten
from normswap.folding.passes.sweeping import sweep
from normswap.folding.passes.tidying import tidy
from normswap.folding.passes.twins import merge_twins
from normswap.folding.plan import Folded, Kept, Merged, Plan
from normswap.graph.build import build_network
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from normswap.folding.passes.leftovers import Form
    from normswap.graph.network import Graph
    from normswap.model import Model


def make_plan(
    model: Model,
    *,
    assume_constant: bool = False,
    merge_branches: bool = False,
    leftover: Form = "keep",
    max_growth: float | None = None,
) -> Plan:
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
    leftover : {"keep", "affine", "normalize"}
        The form of what stays, see :mod:`normswap.folding.passes.leftovers`.
    max_growth : float, optional
        How many times as large the model may become, external data included.

    Returns
    -------
    Plan
        Every BatchNormalization of the main graph, of subgraphs and functions is in it once, and
        so is every chain of arithmetic that is one (:mod:`normswap.graph.decomposed`).
    """
    network = build_network(model, assume_constant=assume_constant)
    allowed = math.inf if max_growth is None else (max_growth - 1) * model.size
    draft, library = Draft(network, allowed), Library(model, network)
    passes: list[Callable[[Draft, Graph], bool]] = [
        sweep,
        straighten,
        find,
        merge_twins,
        fold_along_routes,
        merge_beside,
        partial(gather, always=merge_branches),
        partial(join, always=merge_branches),
        tidy,
        *([merge_everywhere] if merge_branches else []),
        partial(rewrite, form=leftover, library=library),
        store,
    ]
    graphs = settled(draft, library, passes)
    return replace(drafted(model.fingerprint(), draft, graphs), assume_constant=assume_constant)


def settled(
    draft: Draft, library: Library, passes: Sequence[Callable[[Draft, Graph], bool]]
) -> dict[Graph, None]:
    """Do all passes until nothing is left to be done; return the graphs that there will be."""

    def settle(graphs: Iterable[Graph]) -> None:
        """Start over after each pass that has edited something: it may help the others."""
        for graph in list(graphs):
            while any(run(draft, graph) for run in passes):
                pass

    network = draft.network
    called = {number for _, number in library.calls(network.graphs)}
    settle(network.graphs)
    fold_calls(draft, library, settle)
    return _present(draft, library, called)


def drafted(fingerprint: str, draft: Draft, graphs: Mapping[Graph, None]) -> Plan:
    """Return what a draft has come to, of the graphs that will be in the model."""
    fates = [
        (record, record.fate)
        for graph in graphs
        for record in draft.records[graph].values()
        if not record.late
    ]
    return Plan(
        fingerprint,
        tuple(fate for _, fate in fates if isinstance(fate, Folded)),
        tuple(
            fate
            for record, fate in fates
            if isinstance(fate, Kept)
            and record.certain
            # What has made a constant, of which a fold has made another one, goes.
            and (fate.reason is not Reason.CONSTANT or record.whole.source.node.is_used)
        ),
        tuple(
            Merged(node.title, node.graph.path, titles)
            for key, titles in draft.merged.items()
            if not (node := draft.nodes[key]).removed and node.graph in graphs
        ),
        tuple(draft.edits),
        draft.added,
        copied(graphs),
    )


def _present(draft: Draft, library: Library, called: Container[int]) -> dict[Graph, None]:
    """Return all graphs that will be in the model, in order; functions too that nobody called."""
    network = draft.network
    pending = [network.graphs[0]]
    pending += [body for number, body in enumerate(network.bodies) if number not in called]
    seen: dict[Graph, None] = {}
    while pending:
        root = pending.pop()
        if root not in seen:
            family = root.family()
            seen |= dict.fromkeys(family)
            pending += [draft.callee(node, number) for node, number in library.calls(family)]
    return {graph: None for graph in network.graphs if graph in seen}

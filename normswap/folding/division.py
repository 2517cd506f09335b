"""Plan a division: where the statistics of BatchNormalizations go whose scale and B stay.

The other planner of this package (:mod:`normswap.folding.planner` folds whole normalizations), of
the same passes; as pure, and its plan is carried out in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from normswap.folding.draft import Draft
from normswap.folding.functions import Library
from normswap.folding.passes.dividing import LAYER, divide
from normswap.folding.passes.finding import find
from normswap.folding.passes.joining import join
from normswap.folding.passes.leftovers import rewrite
from normswap.folding.passes.routes import fold_along_routes
from normswap.folding.passes.storing import store
from normswap.folding.passes.sweeping import sweep
from normswap.folding.passes.tidying import tidy
from normswap.folding.passes.twins import merge_twins
from normswap.folding.plan import Folded, Kept
from normswap.folding.planner import drafted, settled
from normswap.graph.build import build_network
from normswap.graph.normalization import site_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from normswap.folding.plan import Plan
    from normswap.graph.network import Graph
    from normswap.model import Model


@dataclass(frozen=True, slots=True)
class Divided:
    """A BatchNormalization whose statistics were to go, and its scale and B to stay.

    Attributes
    ----------
    number : int
        See :data:`normswap.folding.passes.dividing.LAYER`.
    fate : Folded or Kept
        What became of the statistics.
    left : tuple of str
        The operators that they are in its place, where they are kept; none where it is undivided.
    """

    number: int
    fate: Folded | Kept
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Division:
    """What becomes of the statistics of BatchNormalizations.

    Attributes
    ----------
    plan : Plan
        The edits.
    layers : dict of int to Divided
        By the key in the plan of the node that has the scale and B.
    """

    plan: Plan
    layers: dict[int, Divided]


def plan_division(model: Model, wanted: Container[int], sealed: Container[int] = ()) -> Division:
    """Decide where the statistics of BatchNormalizations go whose scale and B stay.

    They go up, as an affine map that a fold brings to an operator before it; where they can't,
    they become a Mul and an Add, if their place is known well enough for that.

    Parameters
    ----------
    model : Model
        Is not changed. Its BatchNormalizations are numbered by the attribute
        :data:`normswap.folding.passes.dividing.LAYER`.
    wanted : container of int
        The numbers of those that are divided.
    sealed : container of int
        The numbers of those whose scale and B take no statistics of others in.
    """
    network = build_network(model)
    draft, library = Draft(network, only_up=True), Library(model, network)
    passes: list[Callable[[Draft, Graph], bool]] = [
        sweep,
        partial(find, only=draft.divided),
        partial(divide, wanted=wanted, sealed=sealed),
        merge_twins,
        fold_along_routes,
        partial(join, always=False),
        tidy,
        store,
    ]
    graphs = settled(draft, library, passes)
    for graph in graphs:  # last, so that no function is content with less than a call of it gets
        rewrite(draft, graph, form="affine", library=library)
    layers: dict[int, Divided] = {}
    for record in (record for graph in graphs for record in draft.records[graph].values()):
        if record.fate is not None:
            node = draft.nodes[draft.divided[record.found]]
            kept = isinstance(record.fate, Kept)
            left = tuple(use.node.op for use in record.whole.chain) if kept else ()
            layers[node.key] = Divided(node.attrs[LAYER], record.fate, left)
    for node in (node for graph in graphs for node in graph.nodes):
        block = draft.undivided.get(node.key)
        if block is not None:
            fate = Kept(site_of(node), block.reason, block.tensor, block.detail)
            layers[node.key] = Divided(node.attrs[LAYER], fate)
    return Division(drafted(model.fingerprint(), draft, graphs), layers)

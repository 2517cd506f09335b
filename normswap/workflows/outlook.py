"""What a rewrite leaves undone, and what would do it: worked out only where there is something."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from normswap.graph.decomposed import NORMALIZERS
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.folding.plan import Plan
    from normswap.groupnorm.plan import SwapPlan
    from normswap.model import Model


@dataclass(frozen=True, slots=True)
class Outlook:
    """What could still be done about a model, as it was read.

    Attributes
    ----------
    freezable : int
        BatchNormalizations in training mode that ``recalibrate --freeze`` turns.
    assumable : int
        How many more fold if initializers that are graph inputs too are constants.
    withheld : int
        How many more fold without a limit of growth.
    growth : float
        How many times as large the model becomes then, rounded up; 0 where nothing is withheld.
    traces : tuple of str
        Of a model without a BatchNormalization: what shows that they were folded.
    may_have_had : bool
        Of such a model: whether there are layers that one may have been folded into.
    """

    freezable: int = 0
    assumable: int = 0
    withheld: int = 0
    growth: float = 0.0
    traces: tuple[str, ...] = ()
    may_have_had: bool = False


NOTHING = Outlook()


def after_fold(model: Model, plan: Plan, *, max_growth: float | None, **options: Any) -> Outlook:
    """Return what is left to do after a fold.

    Parameters
    ----------
    model : Model
        As it was planned for; not edited yet.
    max_growth, options
        Of :func:`~normswap.folding.planner.make_plan`, by which it was made.
    """
    if not plan.folded and not plan.kept:
        return without_batchnorm(model)
    blocks = {
        reason
        for reason in (Reason.OVERRIDABLE, Reason.GROWTH)
        if any(entry.tensor_of(reason) is not None for entry in plan.kept)
    }
    training = any(entry.reason is Reason.TRAINING_MODE for entry in plan.kept)
    if not blocks and not training:
        return NOTHING
    from normswap.folding.planner import make_plan

    assumable = withheld = 0
    growth = 0.0
    if Reason.OVERRIDABLE in blocks:
        other = make_plan(model, max_growth=max_growth, **options | {"assume_constant": True})
        assumable = len(other.folded) - len(plan.folded)
    if Reason.GROWTH in blocks:
        other = make_plan(model, **options)
        withheld = len(other.folded) - len(plan.folded)
        growth = math.ceil(100 * (1 + other.added_bytes / model.size)) / 100
    return Outlook(freezable(model) if training else 0, assumable, withheld, growth)


def before_swap(model: Model, plan: SwapPlan) -> Outlook:
    """Return what is left to do about a model that is to be swapped; it is not edited yet."""
    if not plan.total:
        return without_batchnorm(model)
    from normswap.graph.build import gs_nodes

    nodes = (node for node in gs_nodes(model) if node.op == "BatchNormalization")
    trains = any(node.attrs.get("training_mode") or len(node.outputs) > 1 for node in nodes)
    return Outlook(freezable(model)) if trains else NOTHING


def without_batchnorm(model: Model) -> Outlook:
    """Return what a model without a BatchNormalization tells of those that it may have had."""
    from normswap.graph.build import build_network
    from normswap.inspection.traces import CARRIERS, traces

    network = build_network(model)
    nodes = list(network.nodes())
    biased = any(node.op in CARRIERS and node.input(2) is not None for node in nodes)
    other = any(node.op in NORMALIZERS for node in nodes)
    return Outlook(traces=traces(network), may_have_had=biased and not other)


def freezable(model: Model) -> int:
    """Return how many BatchNormalizations ``recalibrate --freeze`` turns to inference mode."""
    from normswap.graph.build import build_network
    from normswap.groupnorm.freeze import find_frozen
    from normswap.groupnorm.recalibrate import RecalibrateOptions

    network = build_network(model, assume_constant=True)
    return len(find_frozen(model, network, RecalibrateOptions()).layers)

"""Put BatchNormalizations that are identities into a model, as planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from normswap.graph.build import all_graphs, gs_nodes
from normswap.graph.names import Names
from normswap.model import ArrayTensor, make_constant
from normswap.unfolding.identity import EPSILON

if TYPE_CHECKING:
    from normswap.model import Model
    from normswap.unfolding.plan import UnfoldPlace, UnfoldPlan


def apply_unfold(plan: UnfoldPlan, model: Model) -> None:
    """Put a BatchNormalization behind every place of a plan.

    It makes the tensor that the layer made, under its name, so that whoever reads that stays as it
    is; what the layer makes has a new name. A layer whose channels are the last axis gets a
    Transpose before and behind it.

    Parameters
    ----------
    plan : UnfoldPlan
        With statistics.
    model : Model
        The model that was planned for, not edited since.

    Raises
    ------
    ModelError
        If the model is not the one that was planned for.
    """
    model.require(plan.fingerprint)
    names = Names(model)
    nodes = dict(enumerate(gs_nodes(model)))
    behind = {
        id(nodes[place.maker]): _built(place, nodes[place.maker], names) for place in plan.places
    }
    for graph in all_graphs(model):
        graph.nodes = [new for node in graph.nodes for new in (node, *behind.get(id(node), ()))]


def _built(place: UnfoldPlace, maker: gs.Node, names: Names) -> list[gs.Node]:
    """Return the nodes behind a layer, which then makes a tensor of another name."""
    if place.identity is None:
        raise AssertionError("a plan that is applied has statistics")
    index = next(i for i, tensor in enumerate(maker.outputs) if tensor.name == place.output)
    y = maker.outputs[index]
    x = gs.Variable(names.fresh(f"{place.output}/linear"), y.dtype, y.shape)
    maker.outputs[index] = x
    identity = place.identity
    lead = f"{place.node}/BatchNormalization"
    parameters = [
        make_constant(names.fresh(f"{lead}/{what}"), ArrayTensor(values))
        for what, values in (
            ("scale", identity.scale),
            ("B", identity.mean),
            ("mean", identity.mean),
            ("var", identity.var),
        )
    ]
    made: list[gs.Node] = []

    def add(
        op: str, inputs: list[gs.Tensor], output: gs.Tensor | None, **attrs: object
    ) -> gs.Tensor:
        name = names.fresh(lead if op == "BatchNormalization" else f"{lead}/{op}")
        output = gs.Variable(name, y.dtype) if output is None else output
        made.append(gs.Node(op, name, attrs, inputs, [output]))
        return output

    if not place.is_channels_last:
        add("BatchNormalization", [x, *parameters], y, epsilon=EPSILON)
        return made
    rank = place.rank or 0
    first = add("Transpose", [x], None, perm=[0, rank - 1, *range(1, rank - 1)])
    normalized = add("BatchNormalization", [first, *parameters], None, epsilon=EPSILON)
    add("Transpose", [normalized], y, perm=[0, *range(2, rank), 1])
    return made

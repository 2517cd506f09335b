"""Carry out a swap on a model: the only module of the swap that edits a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from normswap.graph.build import all_graphs, gs_nodes
from normswap.graph.names import Names
from normswap.graph.unread import drop_unread
from normswap.groupnorm.builder import ConstantPool, LayerBuilder
from normswap.groupnorm.forms import FORMS

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from normswap.groupnorm.plan import SwapPlan
    from normswap.model import Model


def apply_swaps(plan: SwapPlan, model: Model) -> None:
    """Put group normalizations in the place of BatchNormalizations, as planned.

    Every output tensor keeps its name, so that all that reads it stays as it is.

    Parameters
    ----------
    plan : SwapPlan
    model : Model
        The model that was planned for, not edited since.

    Raises
    ------
    ModelError
        If the model is not the one that was planned for.
    """
    model.require(plan.fingerprint)
    nodes = dict(enumerate(gs_nodes(model)))
    names = Names(model)
    replacements: dict[int, list[gs.Node]] = {}
    pools: dict[int, ConstantPool] = {}
    homes = {id(node): graph for graph in all_graphs(model) for node in graph.nodes}
    released: list[gs.Tensor] = []
    for swap in plan.swaps:
        node = nodes[swap.key]
        home = homes[id(node)]
        pool = pools.setdefault(id(home), ConstantPool(names))
        tensors = {tensor.name: tensor for tensor in home.inputs}
        for taken in (node, *(nodes[key] for key in swap.fused)):
            tensors |= {tensor.name: tensor for tensor in (*taken.inputs, *taken.outputs)}
            released += taken.inputs
            taken.inputs.clear()
            taken.outputs.clear()
            replacements[id(taken)] = []
        builder = LayerBuilder(swap.layer, tensors, pool, names)
        form = FORMS[swap.form]
        form.build(builder)
        replacements[id(node)] = builder.nodes
        if form.domain:
            _import_domain(home, form.domain, form.version)
    for graph in all_graphs(model):
        graph.nodes = [new for node in graph.nodes for new in replacements.get(id(node), [node])]
    drop_unread(released, model)


def _import_domain(graph: gs.Graph, domain: str, version: int) -> None:
    imported = graph.import_domains or []
    if all(item.domain != domain for item in imported):
        graph.import_domains = [*imported, helper.make_opsetid(domain, version)]

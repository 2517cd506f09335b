"""What nobody reads any more once a graph of onnx-graphsurgeon was edited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.graph.build import all_graphs

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from normswap.model import Model


def drop_unread(released: list[gs.Tensor], model: Model) -> None:
    """Remove the nodes whose outputs nobody reads any more, such as those that computed a weight.

    Parameters
    ----------
    released : list of gs.Tensor
        What an edit stopped reading; it is used up.
    """
    outputs = {id(tensor) for graph in all_graphs(model) for tensor in graph.outputs}
    dropped: set[int] = set()  # ids of nodes
    while released:
        for node in list(released.pop().inputs):
            if not any(out.outputs or id(out) in outputs for out in node.outputs):
                released += node.inputs
                node.inputs.clear()
                node.outputs.clear()
                dropped.add(id(node))
    if dropped:
        for graph in all_graphs(model):
            graph.nodes = [node for node in graph.nodes if id(node) not in dropped]

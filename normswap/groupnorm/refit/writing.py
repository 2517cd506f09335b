"""Put the constants that were fitted into a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_graphsurgeon as gs

from normswap.graph.build import gs_nodes, with_nested
from normswap.graph.names import Names
from normswap.graph.unread import drop_unread
from normswap.model import ArrayTensor, make_constant

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from normswap.groupnorm.refit.layers import Constant
    from normswap.model import Model


def write_constants(model: Model, constants: Iterable[tuple[Constant, npt.NDArray[Any]]]) -> None:
    """Give constants the values that were fitted.

    Parameters
    ----------
    model : Model
        The one whose layers were fitted, not edited since it was read.
    constants : iterable of (Constant, ndarray)
    """
    nodes, names = list(gs_nodes(model)), Names(model)
    stored: dict[str, gs.Constant] = {}
    released: list[gs.Tensor] = []
    for constant, values in constants:
        source = ArrayTensor(values)
        if constant.name:
            stored[constant.name] = make_constant(constant.name, source)
            model.graph.replaced.append(stored[constant.name])
        elif constant.places:
            key, slot = constant.places[0]
            fresh = names.fresh(f"{nodes[key].inputs[slot].name}_refitted")
            tensor = make_constant(fresh, source)
            for key, slot in constant.places:
                released.append(nodes[key].inputs[slot])
                nodes[key].inputs[slot] = tensor
    for node in (node for graph in with_nested(model.graph) for node in graph.nodes):
        for slot, tensor in enumerate(node.inputs):
            if isinstance(tensor, gs.Constant) and tensor.name in stored:
                node.inputs[slot] = stored[tensor.name]
    drop_unread(released, model)

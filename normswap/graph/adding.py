"""A node more in a graph of onnx-graphsurgeon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_graphsurgeon as gs

if TYPE_CHECKING:
    import numpy as np

    from normswap.graph.names import Names


def added(
    graph: gs.Graph,
    names: Names,
    hint: str,
    inputs: list[gs.Tensor],
    dtype: np.dtype | None = None,
    *,
    is_vector: bool = False,
    **attrs: Any,
) -> gs.Variable:
    """Add a node with one output, and return that.

    Parameters
    ----------
    names : Names
        Of its model.
    hint : str
        What to call it: a word and its operator, with a slash between them.
    dtype : numpy.dtype, optional
        Of the output, where somebody asks for it.
    is_vector : bool
        Whether the output is known to have one axis.
    **attrs : Any
        Attributes of the operator.
    """
    name = names.fresh(hint)
    result = gs.Variable(name, dtype, (None,) if is_vector else None)
    graph.nodes.append(gs.Node(hint.rpartition("/")[2], name, attrs, inputs, [result]))
    return result

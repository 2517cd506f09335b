"""Divide BatchNormalizations, so that their statistics can go without their scale and B.

::

    n = (x - mean) / sqrt(var + epsilon)          y = scale * n + B

The node of n is a normalization like any other. The one behind it keeps scale and B.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.dtypes import is_float
from normswap.folding.edits import Divide
from normswap.graph.batchnorm import affine_of, require_rewritable
from normswap.graph.evaluate import constant_of
from normswap.graph.expressions import Filled
from normswap.graph.reasons import Blocked

if TYPE_CHECKING:
    from collections.abc import Container

    from normswap.folding.draft import Draft
    from normswap.graph.network import Graph, Node

LAYER = "normswap_layer"
"""An attribute: the number that a BatchNormalization has in the model, in every copy of it too.

Once a plan is carried out, it is the key that a divided one has in the plan.
"""


def divide(
    draft: Draft, graph: Graph, *, wanted: Container[int], sealed: Container[int] = ()
) -> bool:
    """Divide the BatchNormalizations of a graph that are wanted; say whether there were any.

    Parameters
    ----------
    draft : Draft
    graph : Graph
    wanted : container of int
        Their numbers, see :data:`LAYER`.
    sealed : container of int
        Those whose scale and B take nothing in.
    """
    for node in graph.nodes:
        if not node.opaque and node.attrs.get(LAYER) in sealed:
            draft.seal(node)
    start = draft.mark()
    done = {*draft.divided.values(), *draft.undivided}
    for node in list(graph.nodes):
        if node.removed or node.key in done or node.attrs.get(LAYER) not in wanted:
            continue
        try:
            with draft.trial():
                _divide(draft, node)
        except Blocked as refusal:
            draft.note(draft.undivided, node.key, refusal.block)
    return bool(draft.since(start))


def _divide(draft: Draft, node: Node) -> None:
    """Divide a node, if it normalizes by statistics that are constants and make sense.

    Raises
    ------
    Blocked
    """
    require_rewritable(node, by_channel=True)
    mean, var = (constant_of(node.input(slot)) for slot in (3, 4))
    known = (node.operand(slot).data_type for slot in (1, 0))
    data_type = next((kind for kind in known if kind and is_float(kind)), mean.data_type)
    ones, zeros = np.ones(mean.shape), np.zeros(mean.shape)
    first = draft.network.keys
    constants = (
        Filled(ones, data_type),
        Filled(zeros, data_type),
        Filled(zeros, mean.data_type),
        Filled(ones, var.data_type),
    )
    draft.commit([Divide(node.key, constants)])
    affine_of(draft.nodes[first])

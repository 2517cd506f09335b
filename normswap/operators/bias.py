"""The optional bias of a linear operator, under an affine of its output: ``b' = s*b + t``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.answers import Block
from normswap.edits import Replace
from normswap.evaluate import constant_of
from normswap.expressions import Filled, Scaled

if TYPE_CHECKING:
    from normswap.dtypes import Wide
    from normswap.graph import Node


def scaled_bias(
    node: Node, slot: int, s: Wide, t: Wide, data_type: int
) -> tuple[Replace, ...] | Block:
    """Return the edits that make the bias of a node ``s*b + t``.

    Parameters
    ----------
    node : Node
    slot : int
        Where the operator has its bias.
    s, t : (M,) ndarray
    data_type : int
        Type of a bias that is new.

    Returns
    -------
    tuple of Replace or Block
        No edit where the bias stays as it is: absent and no shift, or an affine that is none.
    """
    present = node.input(slot)
    if present is None:
        if not (t != 0).any():
            return ()
        return (Replace(node.key, slot, Filled(t, data_type), f"{node.title}_bias"),)
    bias = constant_of(present)
    if isinstance(bias, Block):
        return bias
    if not (s != 1).any() and not (t != 0).any():
        return ()
    return (Replace(node.key, slot, Scaled(bias, s, t), present.name),)

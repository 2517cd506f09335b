"""The weight of a linear operator, as it is or quantized, multiplied by a factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.edits import Edit, Replace
from normswap.folding.quantized import scaled
from normswap.graph.evaluate import constant_of
from normswap.graph.formulas import Scaled
from normswap.graph.network import Use
from normswap.graph.quantized import Dequantized, Transposed, quantized

if TYPE_CHECKING:
    from normswap.dtypes import Wide
    from normswap.graph.expressions import Expression
    from normswap.graph.network import Node


def weight_of(node: Node, slot: int) -> Expression:
    """Return the constant weight of a node, dequantized where it is quantized.

    Raises
    ------
    Blocked
        If it is no constant.
    """
    value = node.input(slot)
    return quantized(value) or constant_of(value)


def scaled_weight(node: Node, slot: int, weight: Expression, factor: Wide) -> tuple[Edit, ...]:
    """Return the edits that make the weight of a node ``factor * W``.

    Parameters
    ----------
    node : Node
    slot : int
    weight : Expression
        From :func:`weight_of`.
    factor : ndarray
        As many axes as the weight. No edit is needed where all factors are 1.

    Raises
    ------
    Blocked
        If it is quantized in a way that can't take the factor.
    """
    value = node.inputs[slot]
    if value is None:
        raise AssertionError("a weight is not left out")
    if not (factor != 1).any():
        return ()
    if isinstance(weight, Dequantized | Transposed):
        return scaled(weight, Use(node, slot), factor)
    return (Replace(node.key, slot, Scaled(weight, factor), value.name),)

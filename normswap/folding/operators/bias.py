"""The bias of a linear operator, and what an affine before or after it does to it.

Some operators have an optional input for it; after others it is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.edits import Edit, Insert, Replace
from normswap.folding.operators.weight import scaled_weight, weight_of
from normswap.folding.quantized import rounded
from normswap.graph.evaluate import constant_of
from normswap.graph.expressions import Expression, Filled
from normswap.graph.formulas import Scaled, Summed
from normswap.graph.quantized import Dequantized, Transposed
from normswap.graph.reasons import unless_blocked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.dtypes import Wide
    from normswap.graph.network import Node


BIAS = 2
"""The input of a convolution that is its bias."""


def scaled_bias(node: Node, s: Wide, t: Wide, data_type: int) -> tuple[Edit, ...]:
    """Return the edits that make the bias of a node ``s*b + t``.

    Parameters
    ----------
    node : Node
        Of a Conv or ConvTranspose.
    s, t : (M,) ndarray
    data_type : int
        Type of a bias that is new.

    Returns
    -------
    tuple of Edit
        None where the bias stays as it is: absent and no shift, or an affine that is none.

    Raises
    ------
    Blocked
        If it is computed at run time, or quantized and would have to be rounded.
    """
    present = node.input(BIAS)
    if present is None:
        if not (t != 0).any():
            return ()
        return (Replace(node.key, BIAS, Filled(t, data_type), f"{node.title}_bias"),)
    bias = weight_of(node, BIAS)
    if not (s != 1).any() and not (t != 0).any():
        return ()
    if isinstance(bias, Dequantized | Transposed):
        if (t != 0).any():
            raise rounded(node, BIAS)
        return scaled_weight(node, BIAS, bias, s)
    return (Replace(node.key, BIAS, Scaled(bias, s, t), present.name),)


def summed_bias(
    node: Node,
    weight: Expression,
    factor: Wide,
    axes: tuple[int, ...],
    channels: int,
    view: tuple[int, ...] | None = None,
) -> Replace:
    """Return the edit that makes the bias of a node ``b + sum(W * factor, axes)``.

    Parameters
    ----------
    node : Node
        Of a Conv or ConvTranspose.
    weight, factor, axes, view
        See :class:`~normswap.graph.formulas.Summed`.
    channels : int
        Length of the bias.

    Raises
    ------
    Blocked
        If it is computed at run time, or quantized and would have to be rounded.
    """
    present = node.input(BIAS)
    bias = None if present is None else weight_of(node, BIAS)
    if isinstance(bias, Dequantized | Transposed):
        raise rounded(node, BIAS)
    total = Summed(bias, weight, factor, axes, (channels,), view=view)
    return Replace(node.key, BIAS, total, f"{node.title}_bias" if present is None else present.name)


def following_bias(
    node: Node,
    weight: Expression,
    factor: Wide,
    axes: tuple[int, ...],
    result: Sequence[int],
    gain: float = 1.0,
) -> Edit:
    """Return the edit that adds ``gain * sum(W * factor, axes)`` after a node that has no bias.

    It goes into the constant of an Add or Sub that follows, if there is one; or becomes an Add.

    Parameters
    ----------
    node : Node
    weight, factor, axes, gain
        See :class:`~normswap.graph.formulas.Summed`.
    result : sequence of int
        Shape of the sum, which is broadcast to the node's output.
    """
    shape = tuple(result)
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    reader = next(iter(node.out.readers.values())) if node.out.is_private else None
    if reader and (add := reader.node).op in ("Add", "Sub") and not add.domain:
        other = 1 - reader.slot
        constant = unless_blocked(constant_of, add.inputs[other])
        if constant is not None:
            sign = 1.0 if add.op == "Add" else -1.0  # y - K and K - y: K takes it with a minus
            total = Summed(constant, weight, factor, axes, shape, gain=sign * gain)
            return Replace(add.key, other, total, add.operand(other).name)
    total = Summed(None, weight, factor, axes, shape, gain=gain)
    return Insert(node.key, 0, "Add", total, f"{node.title}_shift")

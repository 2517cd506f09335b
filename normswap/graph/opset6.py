"""Models of opset 6 and before, where broadcasting was asked for by attributes.

Add, Sub, Mul and Div then broadcast only their second operand, if ``broadcast=1``, and its axes
line up with those of the first from ``axis`` on (by default with the last ones). The planner knows
one way to broadcast, that of NumPy: so in its mirror a constant operand is seen with the trailing
axes that make it line up from the right. What becomes of it is laid back when an edit is recorded
(:mod:`normswap.folding.legacy`).

Source: ONNX operators Add-1, Add-6 and the like, Gemm-1 and Gemm-6.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from normswap.dtypes import is_float
from normswap.graph.expressions import Expression, Leaf, Reshaped
from normswap.model import TensorSource, source_of
from normswap.semantics.families import ARITHMETIC

if TYPE_CHECKING:
    from normswap.graph.network import Node, Value


def broadcasts_by_attribute(node: Node) -> bool:
    """Whether a node lines its operands up in a way that NumPy does not."""
    return bool(
        node.opset < 7 and node.op in ARITHMETIC and not node.domain and node.attr("broadcast", 0)
    )


def modern_operand(node: Node) -> Expression | None:
    """Return the second operand of such a node as NumPy would need it.

    Returns
    -------
    Expression or None
        None where it is no constant of the model, or the rank of the first operand is not known:
        then the node is a closed book.
    """
    first, second = node.input(0), node.input(1)
    source = None if second is None else _constant(second)
    if first is None or second is None or source is None:
        return None
    if not is_float(source.data_type) or first.rank is None:
        return None
    rank = len(source.shape)
    axis = int(node.attr("axis", first.rank - rank))
    trailing = first.rank - (axis + first.rank if axis < 0 else axis) - rank
    leaf = Leaf(source, second.name)
    if math.prod(source.shape) == 1:
        return Reshaped(leaf, ())
    return Reshaped(leaf, (*source.shape, *(1,) * trailing)) if trailing >= 0 else None


def _constant(value: Value) -> TensorSource | None:
    """Return the values of an initializer or of a Constant node."""
    node = value.producer
    if value.source is not None or node is None or node.op != "Constant" or node.domain:
        return value.source
    attribute = node.attr("value", None)
    return source_of(attribute) if isinstance(attribute, gs.Constant) else None

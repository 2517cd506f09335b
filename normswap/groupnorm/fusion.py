"""The activation behind a normalization, where it is one that a fused kernel can take along.

::

    SiLU    y * sigmoid(y)        Sigmoid and Mul; from opset 24 also Swish with alpha 1
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from normswap.graph.network import Node

SILU = "silu"


class Fusible(NamedTuple):
    """An activation that nothing but itself stands behind.

    Attributes
    ----------
    activation : str
        `SILU`.
    nodes : tuple of int
        Keys of its nodes, the one that makes the result last.
    y : str
        Name of the result.
    """

    activation: str
    nodes: tuple[int, ...]
    y: str


def fusible_activation(node: Node) -> Fusible | None:
    """Return the activation that alone reads what a node makes, None where there is none.

    The tensors in between vanish with it, so nothing else may read them.
    """
    y = node.out
    if y.is_output or y.captured:
        return None
    readers = [use.node for use in y.readers.values()]
    if len(readers) == 1 and readers[0].op == "Swish" and readers[0].attr("alpha", 1.0) == 1.0:
        (swish,) = readers
        return Fusible(SILU, (swish.key,), swish.out.name) if _is_alike(swish, node) else None
    sigmoid = next((reader for reader in readers if reader.op == "Sigmoid"), None)
    product = next((reader for reader in readers if reader.op == "Mul"), None)
    if len(readers) != 2 or sigmoid is None or product is None:
        return None
    gate = sigmoid.out
    whole = gate.is_private and gate in product.inputs
    if not whole or not (_is_alike(sigmoid, node) and _is_alike(product, node)):
        return None
    return Fusible(SILU, (sigmoid.key, product.key), product.out.name)


def _is_alike(reader: Node, node: Node) -> bool:
    return reader.domain == node.domain and reader.graph is node.graph and not reader.opaque

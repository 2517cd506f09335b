"""Normalizations that an exporter wrote as arithmetic: chains of Sub, Div, Mul, Add and Neg.

TensorFlow, Keras, Paddle, Caffe2 and PyTorch's decompositions write a BatchNormalization as
``(x - mean) / sqrt(var + epsilon) * scale + B`` or as ``x * s + t``, in many orders, with the
constants on either side. Whatever the order, a chain of such links is one affine of the tensor that
comes in.

Not every such arithmetic is a normalization that was taken apart. A chain must both scale and shift
(the bias after a MatMul, or a layer scale, is none), along one axis at most (or by scalars), and
must not be the scale and bias of another normalization (LayerNorm, InstanceNorm, GroupNorm and
their own decompositions). One that varies along axis 1 looks like a BatchNormalization. Of others,
over the last axis of a sequence or with scalars, it is not known: they count only if they fold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.graph.affine import Affine
from normswap.graph.evaluate import spread_of
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Blocked, Reason, unless_blocked
from normswap.graph.removal import may_grow
from normswap.semantics.families import SHAPING

if TYPE_CHECKING:
    from collections.abc import Iterator


LARGEST_PARAMETER = 1 << 16
"""Elements of a constant that may be a parameter per channel."""

LINKS = frozenset({"Add", "Sub", "Mul", "Div", "Neg"})

NORMALIZERS = frozenset({
    "GroupNorm", "GroupNormalization", "InstanceNormalization", "LayerNormalization",
    "LpNormalization", "MeanVarianceNormalization", "RMSNormalization",
    "SimplifiedLayerNormalization",
})  # fmt: skip


def chains(nodes: list[Node]) -> Iterator[tuple[Use, ...]]:
    """Yield the normalizations that are written as arithmetic, each as its links in order.

    Parameters
    ----------
    nodes : list of Node
        The nodes of a graph, each after those that it reads from.
    """
    links: dict[int, Use] = {}  # by key of the node
    following: dict[int, Use] = {}
    continued: set[int] = set()
    for node in nodes:
        use = link(node)
        if use is None:
            continue
        links[node.key] = use
        value = node.inputs[use.slot]
        before = value.producer if value else None
        if value and before and before.key in links and value.is_private:
            following[before.key] = use
            continued.add(node.key)
    for key, use in links.items():
        if key in continued:
            continue
        chain = [use]
        while (after := following.get(chain[-1].node.key)) is not None:
            chain.append(after)
        yield from _split(chain)


def looks_like_batchnorm(chain: tuple[Use, ...]) -> bool:
    """Whether a chain has parameters per channel, as a BatchNormalization has them."""
    return any(axis_of(use) == 1 for use in chain)


def _split(chain: list[Use]) -> Iterator[tuple[Use, ...]]:
    """Cut a chain where the axis changes, and yield what is a normalization."""
    part: list[Use] = []
    axis: int | None = None
    for use in chain:
        own = axis_of(use)
        if axis is not None and own is not None and own != axis:
            yield from _complete(part)
            part, axis = [], None
        part.append(use)
        axis = own if axis is None else axis
    yield from _complete(part)


def _complete(part: list[Use]) -> Iterator[tuple[Use, ...]]:
    """Yield a chain if it is a normalization."""
    ops = {use.node.op for use in part}
    if not ops & {"Mul", "Div"} or not ops & {"Add", "Sub"} or is_normalized(part[0]):
        return
    yield tuple(part)


def is_normalized(use: Use) -> bool:
    """Whether what a node reads comes straight from another normalization."""
    value = use.node.inputs[use.slot]
    while value is not None and value.producer is not None:
        node = value.producer
        if node.op in NORMALIZERS:
            return True
        if node.op in {"Mul", "Div"} and not node.domain:
            # By a standard deviation, or by its reciprocal.
            makers = [operand.producer for operand in node.inputs if operand and operand.producer]
            roots = {"Sqrt", "Reciprocal", "Pow", "Div"}
            return any(maker.op in roots and not maker.domain for maker in makers)
        if node.op not in SHAPING or node.domain:
            return False
        value = node.inputs[0]
    return False


def link(node: Node) -> Use | None:
    """Return by which input a tensor passes through a node that applies an affine to it."""
    if (
        node.op not in LINKS
        or node.domain
        or len(node.inputs) != (1 if node.op == "Neg" else 2)
        or node.opaque
        or node.refers_to_attributes
    ):
        return None
    constants = [unless_blocked(spread_of, value) is not None for value in node.inputs]
    if all(constants) or sum(not constant for constant in constants) != 1:
        return None
    use = Use(node, constants.index(False))
    if node.op == "Div" and use.slot == 1:
        return None
    return None if unless_blocked(affine_of_link, use) is None else use


def affine_of_link(use: Use) -> Affine:
    """Return the affine that one node applies.

    Raises
    ------
    Blocked
        If its other operand is no constant, or not one per channel.
    """
    node, slot = use
    one, zero = np.ones(()), np.zeros(())
    if node.op == "Neg":
        return Affine(-one, zero)
    constant, operand = spread_of(node.inputs[1 - slot]), node.operand(1 - slot)
    value = node.inputs[slot]
    per_axis = Blocked(
        Reason.AXIS,
        node.title,
        f"{node.op} {node.title} has no constant input with one value per channel",
    )
    if np.prod(constant.shape, dtype=np.int64) > LARGEST_PARAMETER:
        raise per_axis
    if value is None or may_grow(value, operand.shape):
        raise per_axis
    wide = constant.wide().astype(np.longdouble)
    if wide.size == 1:
        wide = wide.reshape(())
    else:
        if value.shape is None or sum(size != 1 for size in wide.shape) != 1:
            raise per_axis
        wide = wide.reshape((1,) * (len(value.shape) - wide.ndim) + wide.shape)
    match node.op:
        case "Add":
            return Affine(one, wide)
        case "Sub":
            return Affine(one, -wide) if slot == 0 else Affine(-one, wide)
        case "Mul":
            return Affine(wide, zero)
        case _:
            with np.errstate(divide="ignore"):
                return Affine(1 / wide, zero)


def axis_of(use: Use) -> int | None:
    """Return the axis along which a link's constant varies, None for a scalar."""
    affine = unless_blocked(affine_of_link, use)
    if affine is None:
        return None
    return next((axis for axis in range(affine.ndim) if affine.varies_along(axis)), None)

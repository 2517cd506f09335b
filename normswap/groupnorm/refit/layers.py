"""Which layers of a network are linear in a constant weight, and which of them share one."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from normswap.dtypes import is_float
from normswap.graph.evaluate import constant_source
from normswap.graph.reasons import Blocked, Reason, unless_blocked
from normswap.groupnorm.refit.products import (
    Convolution,
    MatrixProduct,
    TransposedConvolution,
)
from normswap.groupnorm.selection import where
from normswap.groupnorm.statistics import behind_identities

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from normswap.graph.network import Node, Value
    from normswap.groupnorm.refit.products import Product
    from normswap.model import TensorSource

LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

LARGEST = 6144
"""Columns of normal equations: 300 MB of float64."""

_WINDOW = ("auto_pad", "dilations", "pads", "strides")
_TRANSPOSED = (*_WINDOW, "output_padding", "output_shape")

Place = tuple[int, int]
"""An input of a node, by the number of the node."""


class UnfitError(Exception):
    """A layer can't be fitted; why is said to people."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A node that is linear in a constant.

    Attributes
    ----------
    node : Node
    last : Node
        The node of whose result the bias is a part: an Add behind a MatMul, or the node itself.
    product : Product
    weight, bias : (Node, int), and None
        Where they are read.
    """

    node: Node
    last: Node
    product: Product
    weight: tuple[Node, int]
    bias: tuple[Node, int] | None

    @property
    def x(self) -> Value:
        """What comes to it."""
        return self.node.operand(1 - self.weight[1])

    @property
    def y(self) -> Value:
        """What it makes of it."""
        return self.last.out


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant that is fitted.

    Attributes
    ----------
    source : TensorSource
        What it is.
    name : str
        Of the initializer whose values become others; empty where there is none that nobody else
        reads. Then every place gets another constant.
    places : tuple of Place
        Where it is read, in the model as it is written.
    """

    source: TensorSource
    name: str
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Shared:
    """Layers with one weight.

    Attributes
    ----------
    layers : list of Linear
    weight : Constant
    bias : Constant or None
    """

    layers: list[Linear]
    weight: Constant
    bias: Constant | None


@dataclass(frozen=True, slots=True)
class Found:
    """What can be fitted, and what can't.

    Attributes
    ----------
    problems : list of Shared
    kept : dict of str to str
        By the name of the layer: why not.
    """

    problems: list[Shared] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


def find_layers(nodes: Iterable[Node], tags: Mapping[int, int], called: Mapping[int, int]) -> Found:
    """Find the linear layers.

    Parameters
    ----------
    nodes : iterable of Node
        Of all graphs, after functions were inlined.
    tags : Mapping of int to int
        The number of each node before that, by its number now.
    called : Mapping of int to int
        In which function a node was, of those that were in one.
    """
    found = Found()
    groups: dict[Hashable, list[Linear]] = {}
    for node in nodes:
        if node.op not in LINEAR or node.domain or node.key not in tags:
            continue
        try:
            layer = _linear(node)
        except UnfitError as error:
            found.kept[where(node)] = str(error)
        except Blocked as blocked:
            # A product of two tensors is no layer.
            if blocked.block.reason is not Reason.NOT_CONSTANT:
                found.kept[where(node)] = blocked.block.detail
        else:
            groups.setdefault(_identity(layer.weight, tags, called), []).append(layer)
    for layers in groups.values():
        try:
            found.problems.append(_shared(layers, tags, called))
        except UnfitError as error:  # noqa: PERF203 - each layer has its own
            found.kept[where(layers[0].node)] = str(error)
    return found


def _linear(node: Node) -> Linear:
    """Return a node as a layer.

    Raises
    ------
    Blocked
        It is not linear in a constant.
    UnfitError
        That is not of floats, or too large.
    """
    if node.refers_to_attributes:
        raise UnfitError("its attributes are set by the caller of its function")
    slot = 1
    if node.op == "MatMul" and unless_blocked(constant_source, node.operand(1)) is None:
        slot = 0
    source = constant_source(node.operand(slot))
    if not is_float(source.data_type):
        raise UnfitError("its weight is not of a float type")
    last, bias = node, (node, 2) if node.op != "MatMul" and node.input(2) is not None else None
    product = _product(node, slot, tuple(source.shape))
    if node.op == "MatMul" and slot == 1:
        last, bias = _added(node, source.shape[-1])
    size = math.prod(source.shape) // max(_results(product, tuple(source.shape)), 1)
    if size > LARGEST:
        detail = f"each of its outputs has {size:,} weights, and a fit takes {LARGEST:,} at most"
        raise UnfitError(detail)
    return Linear(node, last, product, (node, slot), bias)


def _product(node: Node, slot: int, shape: tuple[int, ...]) -> Product:
    given = node.attrs
    if node.op == "Conv":
        how = {name: given[name] for name in _WINDOW if name in given}
        return Convolution(shape, given.get("group", 1), how)
    if node.op == "ConvTranspose":
        how = {name: given[name] for name in _TRANSPOSED if name in given}
        return TransposedConvolution(shape, given.get("group", 1), how)
    if len(shape) != 2:
        raise UnfitError("its weight is not a matrix")
    if node.op == "MatMul":
        return MatrixProduct(turned=slot == 0, first=slot == 0)
    return MatrixProduct(
        turned=bool(given.get("transB", 0)),
        upright=bool(given.get("transA", 0)),
        factor=given.get("alpha", 1.0),
        gain=given.get("beta", 1.0),
    )


def _results(product: Product, shape: tuple[int, ...]) -> int:
    """Return how many results of a layer there are for each position."""
    if isinstance(product, Convolution):
        return shape[0]
    if isinstance(product, TransposedConvolution):
        return shape[1] * product.group
    return shape[0] if isinstance(product, MatrixProduct) and product.turned else shape[1]


def _added(node: Node, results: int) -> tuple[Node, tuple[Node, int] | None]:
    """Return the Add of a bias behind a MatMul, and where that is read; else the node itself."""
    value = node.out
    use = next(iter(value.readers.values())) if value.is_private else None
    if use is None or use.node.op != "Add" or use.node.domain:
        return node, None
    other = unless_blocked(constant_source, use.node.operand(1 - use.slot))
    if other is None or tuple(other.shape)[-1:] != (results,) or math.prod(other.shape) != results:
        return node, None
    return use.node, (use.node, 1 - use.slot)


def _identity(
    place: tuple[Node, int], tags: Mapping[int, int], called: Mapping[int, int]
) -> Hashable:
    """Return what is the same for all that read the same constant."""
    node, slot = place
    value = behind_identities(node.operand(slot))
    if _is_own(value, node, tags, called):
        return tags[node.key], slot  # one constant of a function, however often that is called
    return id(value)


def _is_own(value: Value, node: Node, tags: Mapping[int, int], called: Mapping[int, int]) -> bool:
    """Whether a constant is made in the very function that a node was in."""
    if value.producer is None or value.producer.key not in tags:
        return False
    makers = called.get(tags[value.producer.key])
    return makers is not None and makers == called.get(tags[node.key])


def _shared(layers: list[Linear], tags: Mapping[int, int], called: Mapping[int, int]) -> Shared:
    """Return layers with one weight as a problem.

    Raises
    ------
    UnfitError
        They read it in different ways, or others in a function read it too.
    """
    first = layers[0]
    ways = {
        (type(layer.product), getattr(layer.product, "group", 1), _way(layer.product))
        for layer in layers
    }
    if len(ways) > 1:
        detail = "layers of different kinds share its weight"
        raise UnfitError(detail)
    weight = _constant([layer.weight for layer in layers], tags, called)
    biases = [layer.bias for layer in layers if layer.bias is not None]
    bias = None
    if len(biases) == len(layers):
        same = {_identity(place, tags, called) for place in biases}
        source = unless_blocked(constant_source, biases[0][0].operand(biases[0][1]))
        results = _results(first.product, tuple(weight.source.shape))
        is_vector = (
            source is not None
            and is_float(source.data_type)
            and math.prod(source.shape) == results
            and tuple(source.shape)[-1:] == (results,)
        )
        if len(same) == 1 and is_vector and first.product.gain:
            with contextlib.suppress(UnfitError):  # then it stays as it is
                bias = _constant(biases, tags, called)
    return Shared(layers, weight, bias)


def _way(product: Product) -> tuple[bool, ...]:
    if isinstance(product, MatrixProduct):
        return product.turned, product.first
    return ()


def _constant(
    places: list[tuple[Node, int]], tags: Mapping[int, int], called: Mapping[int, int]
) -> Constant:
    """Return the constant that is read in some places.

    Raises
    ------
    UnfitError
        Where it is read in a function that is handed it, and others read it too or a node makes it.
    """
    node, slot = places[0]
    value = behind_identities(node.operand(slot))
    source = constant_source(node.operand(slot))
    readers = {(reader.key, at) for reader, at in _readers(value)}
    ours = {(reader.key, at) for reader, at in places}
    is_stored = value.producer is None and not value.is_output and not value.graph.parent
    if is_stored and readers == ours:
        return Constant(source, value.name, ())
    numbers = {(tags[reader.key], at) for reader, at in places}
    is_handed = any(number in called for number, _ in numbers)
    if is_handed and not _is_own(value, node, tags, called):
        raise UnfitError(
            f"other nodes read its constant {value.name} too"
            if readers != ours
            else f"callers of its function pass {value.name} to it"
        )
    return Constant(source, "", tuple(sorted(numbers)))


def _readers(value: Value) -> Iterable[tuple[Node, int]]:
    """Yield where a constant is read, under whichever name."""
    pending = [value]
    while pending:
        for use in pending.pop().readers.values():
            node = use.node
            is_alias = node.op == "Identity" and not node.domain
            if is_alias and not node.out.is_output and not node.out.captured:
                pending.append(node.out)
            else:
                yield node, use.slot

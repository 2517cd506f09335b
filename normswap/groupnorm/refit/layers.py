"""Which layers of a network are linear in a constant weight, and which of them share one.

A constant is read under several names, and after functions were inlined and bodies written out by
more nodes than before: by those of every call and turn. It is one constant nevertheless where it is
made in the function or body; where a function is handed it, it is what each call hands to it.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from normswap.dtypes import is_float
from normswap.graph.evaluate import constant_source
from normswap.graph.network import Use
from normswap.graph.reasons import Blocked, Reason, unless_blocked
from normswap.groupnorm.refit.products import (
    Convolution,
    MatrixProduct,
    TransposedConvolution,
)
from normswap.groupnorm.selection import where
from normswap.groupnorm.statistics import behind_identities
from normswap.semantics.families import LINEAR

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Iterable, Iterator, Mapping, Sequence

    from normswap.graph.network import Node, Value
    from normswap.groupnorm.refit.products import Product
    from normswap.model import TensorSource

LARGEST = 6144
"""Columns of normal equations: 300 MB of float64."""

_WINDOW = ("auto_pad", "dilations", "pads", "strides")
_TRANSPOSED = (*_WINDOW, "output_padding", "output_shape")

NodeInput = tuple[int, int]
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
    along : int
        The input that is not the weight.
    weight, bias : Use, and None
        Where they are read.
    """

    node: Node
    last: Node
    product: Product
    along: int
    weight: Use
    bias: Use | None


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
    places : tuple of NodeInput
        Where it is read, in the model as it is written.
    """

    source: TensorSource
    name: str
    places: tuple[NodeInput, ...]


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


@dataclass(frozen=True, slots=True)
class Origins:
    """Where the nodes of a network were before functions were inlined and bodies written out.

    Attributes
    ----------
    tags : Mapping of int to int
        The number of each node before that, by its number now.
    copied : container of int
        The nodes of which there may be several now, by their number before.
    stored : container of str
        The initializers of the main graph before.
    handed : Mapping of int to NodeInput
        Of the nodes through which a constant comes into a function: where the call is handed it.
    open : container of int
        The nodes that are not the same in each call and turn, by their number before.
    names : Mapping of int to str
        What to call nodes, by their number before.
    """

    tags: Mapping[int, int]
    copied: Container[int]
    stored: Container[str]
    handed: Mapping[int, NodeInput]
    open: Container[int]
    names: Mapping[int, str]

    def place(self, use: Use) -> NodeInput:
        """Return where a constant was read before."""
        return self.handed.get(use.node.key) or (self.tags.get(use.node.key, -1), use.slot)

    def identity(self, use: Use) -> Hashable:
        """Return what is the same for all that read the same constant."""
        value = behind_identities(use.node.operand(use.slot))
        readers = map(self.place, value.readers.values())
        places = [place for place in readers if place[0] in self.copied]
        maker = value.producer
        is_copied = (
            value.name not in self.stored
            if maker is None
            else self.tags.get(maker.key) in self.copied and not self._is_handed(value)
        )
        return min(places) if places and is_copied else id(value)

    def constant(self, uses: Sequence[Use]) -> Constant:
        """Return the constant that is read in some places.

        Raises
        ------
        UnfitError
            It can't be another one there only.
        Blocked
            It is none.
        """
        first = uses[0]
        source = constant_source(first.node.operand(first.slot))
        value = behind_identities(first.node.operand(first.slot))
        ours = {(use.node.key, use.slot) for use in uses}
        found: set[NodeInput] = set()
        is_shared = False
        for place, readers in self._ways(value):
            is_shared = is_shared or not readers <= ours
            if readers & ours:
                if not readers <= ours:
                    raise UnfitError(f"its function reads {value.name} in other places too")
                found.add(place)
        is_stored = value.producer is None and value.name in self.stored
        if is_stored and not is_shared and not value.is_output:
            return Constant(source, value.name, ())
        if not found or (value.producer is not None and self._is_handed(value)):
            raise UnfitError(
                f"{value.name} is computed from what another call or turn has otherwise"
            )
        return Constant(source, "", tuple(sorted(found)))

    def name(self, node: Node) -> str:
        """Return what to call a node: in a function what it is called there."""
        return self.names.get(self.tags.get(node.key, -1)) or where(node)

    def title(self, node: Node, use: Use) -> str:
        """Return what to call a layer: where its function is handed a constant, by that too."""
        name = self.name(node)
        value = use.node.operand(use.slot)
        source = behind_identities(value)
        while value is not source and value.producer is not None:
            if value.producer.key in self.handed:
                return f"{name} with {source.name}"
            value = value.producer.operand(0)
        return name

    def _ways(self, value: Value) -> Iterator[tuple[NodeInput, set[tuple[int, int]]]]:
        """Yield where a constant was read, under whichever name, and the uses that are there now.

        What a call hands to its function is read in one place, whatever that does with it.
        """
        for use in value.readers.values():
            node = use.node
            own = {(node.key, use.slot)}
            if node.key in self.handed:
                inside = [readers for _, readers in self._ways(node.out)]
                yield self.place(use), set().union(*inside, own if node.out.is_output else ())
            elif self._is_alias(node) and not node.out.is_output:
                yield from self._ways(node.out)
            else:
                yield self.place(use), own

    def _is_alias(self, node: Node) -> bool:
        return (
            node.op == "Identity" and not node.domain and self.tags.get(node.key) not in self.open
        )

    def _is_handed(self, value: Value) -> bool:
        """Whether a constant is, or is computed from, what a call hands to a function."""
        pending, seen = [value], {id(value)}
        while pending:
            maker = pending.pop().producer
            if maker is not None:
                if maker.key in self.handed or self.tags.get(maker.key) in self.open:
                    return True
                new = {id(v): v for v in maker.inputs if v is not None and id(v) not in seen}
                seen |= new.keys()
                pending += new.values()
        return False


def find_layers(nodes: Iterable[Node], origins: Origins) -> Found:
    """Find the linear layers.

    Parameters
    ----------
    nodes : iterable of Node
        Of all graphs, after functions were inlined.
    origins : Origins
    """
    found = Found()
    groups: dict[Hashable, list[Linear]] = {}
    for node in nodes:
        if node.op not in LINEAR or node.domain or node.key not in origins.tags:
            continue
        try:
            layer = _linear(node)
        except UnfitError as error:
            found.kept[origins.name(node)] = str(error)
        except Blocked as blocked:
            # A product of two tensors is no layer.
            if blocked.block.reason is not Reason.NOT_CONSTANT:
                found.kept[origins.name(node)] = blocked.block.detail
        else:
            groups.setdefault(origins.identity(layer.weight), []).append(layer)
    for layers in groups.values():
        try:
            found.problems.append(_shared(layers, origins))
        except UnfitError as error:  # noqa: PERF203 - each layer has its own
            found.kept[origins.title(layers[0].node, layers[0].weight)] = str(error)
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
    weight = _weight(node, slot)
    source = constant_source(weight.node.operand(weight.slot))
    if not is_float(source.data_type):
        raise UnfitError("its weight is not of a float type")
    last, bias = node, None
    product = _product(node, slot, tuple(source.shape), is_turned=weight.node is not node)
    if node.op == "MatMul" and slot == 1:
        last, bias = _added(node, _results(product, tuple(source.shape)))
    elif node.op != "MatMul" and node.input(2) is not None:
        bias = Use(node, 2)
    size = math.prod(source.shape) // max(_results(product, tuple(source.shape)), 1)
    if size > LARGEST:
        detail = f"each of its outputs has {size:,} weights, and a fit takes {LARGEST:,} at most"
        raise UnfitError(detail)
    return Linear(node, last, product, 1 - slot, weight, bias)


def _weight(node: Node, slot: int) -> Use:
    """Return where a weight is read: by a Transpose, if that is of a matrix, and for the node only.

    Who is handed a matrix, as the function of a torch.nn.Linear is, has it transposed on the way.
    """
    value = node.operand(slot)
    maker = value.producer
    if node.op not in {"MatMul", "Gemm"} or maker is None or not value.is_private:
        return Use(node, slot)
    is_transpose = maker.op == "Transpose" and not maker.domain and not maker.refers_to_attributes
    if not is_transpose or len(constant_source(value).shape) != 2:
        return Use(node, slot)
    return Use(maker, 0) if list(maker.attr("perm", (1, 0))) == [1, 0] else Use(node, slot)


def _product(node: Node, slot: int, shape: tuple[int, ...], *, is_turned: bool) -> Product:
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
        return MatrixProduct(turned=(slot == 0) != is_turned, first=slot == 0)
    return MatrixProduct(
        turned=bool(given.get("transB", 0)) != is_turned,
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


def _added(node: Node, results: int) -> tuple[Node, Use | None]:
    """Return the Add of a bias behind a MatMul, and where that is read; else the node itself."""
    value = node.out
    use = next(iter(value.readers.values())) if value.is_private else None
    if use is None or use.node.op != "Add" or use.node.domain:
        return node, None
    other = unless_blocked(constant_source, use.node.operand(1 - use.slot))
    if other is None or tuple(other.shape)[-1:] != (results,) or math.prod(other.shape) != results:
        return node, None
    return use.node, Use(use.node, 1 - use.slot)


def _shared(layers: list[Linear], origins: Origins) -> Shared:
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
    weight = origins.constant([layer.weight for layer in layers])
    biases = [layer.bias for layer in layers if layer.bias is not None]
    bias = None
    if len(biases) == len(layers):
        same = set(map(origins.identity, biases))
        source = unless_blocked(constant_source, biases[0].node.operand(biases[0].slot))
        results = _results(first.product, tuple(weight.source.shape))
        is_vector = (
            source is not None
            and is_float(source.data_type)
            and math.prod(source.shape) == results
            and tuple(source.shape)[-1:] == (results,)
        )
        if len(same) == 1 and is_vector and first.product.gain:
            with contextlib.suppress(UnfitError):  # then it stays as it is
                bias = origins.constant(biases)
    return Shared(layers, weight, bias)


def _way(product: Product) -> tuple[bool, ...]:
    if isinstance(product, MatrixProduct):
        return product.turned, product.first
    return ()

"""One table of classes for the tensors of two models.

Two tensors of one class are the same function of the model's inputs: inputs of one name,
constants of the same bytes, and what the same operator, meaning and attributes make of tensors of
the same classes. What a proof shows to be equal gets one class too.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from normswap.proof.constants import Constants, content_of, digest_of, glance_of, kind_of
from normswap.proof.flat import CHOICE, NONE, OWN, Flat, Node
from normswap.semantics.constants import evaluate
from normswap.semantics.registry import meaning_of, since_version

if TYPE_CHECKING:
    from collections.abc import Hashable

    from normswap.proof.sizes import Sizes

_SYMMETRIC = frozenset(
    {
        "Add",
        "And",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "Equal",
        "Max",
        "Mean",
        "Min",
        "Mul",
        "Or",
        "Sum",
        "Xor",
    }
)
_WINDOWS = frozenset({"AveragePool", "Conv", "ConvTranspose", "LpPool", "MaxPool"})
_LARGEST = 1 << 24  # elements of a constant that is computed in order to be told


@dataclass(slots=True, eq=False)
class Side:
    """One of the two models.

    Attributes
    ----------
    flat : Flat
    constants : Constants
    sizes : tuple of Sizes
        On inputs of several sizes; of one only where the model takes no others.
    classes : list of int
        By tensor; `NONE` where it has none yet.
    overridable : frozenset of int
        Constants that a caller of the model may replace.
    """

    flat: Flat
    constants: Constants
    sizes: tuple[Sizes, ...]
    classes: list[int] = field(default_factory=list)
    overridable: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Start with no classes."""
        self.classes = [NONE] * len(self.flat.names)
        self.overridable = frozenset(self.flat.inputs.values()) & self.flat.tensors.keys()

    def value(self, number: int) -> np.ndarray | None:
        """Return what is known of a tensor that has one value only, whatever the input."""
        first = self.sizes[0]
        if number in first.values and (len(self.sizes) == 1 or number in first.constant):
            return first.values[number]
        return None


class Table:
    """The classes, and what is known to be in them."""

    def __init__(self) -> None:
        self._ids: dict[Hashable, int] = {}
        self._glances: dict[Hashable, list[_Content]] = {}
        self._places: dict[Hashable, int] = {}
        self._count = 0

    def fresh(self) -> int:
        """Return a class of its own."""
        self._count += 1
        return self._count - 1

    def of(self, key: Hashable) -> int:
        """Return the class of a key."""
        found = self._ids.get(key)
        if found is None:
            found = self._ids[key] = self.fresh()
        return found

    def start(self, side: Side) -> None:
        """Give a model's inputs and constants their classes."""
        flat = side.flat
        for name, number in flat.inputs.items():
            default = number in flat.tensors
            given = self._constant(side, number) if default else None
            side.classes[number] = self.of(("input", name, given))
        for number in flat.tensors:
            if side.classes[number] == NONE:
                side.classes[number] = self._constant(side, number)

    def walk(self, side: Side) -> dict[int, int]:
        """Give all tensors of a model their classes; return the first tensor of each class."""
        self.start(side)
        homes: dict[int, int] = {}
        for number, kind in enumerate(side.classes):
            if kind != NONE:
                homes.setdefault(kind, number)
        for index, node in enumerate(side.flat.nodes):
            for number, kind in zip(node.outputs, self.number(side, index), strict=True):
                if number != NONE:
                    side.classes[number] = kind
                    homes.setdefault(kind, number)
        return homes

    def number(self, side: Side, index: int) -> list[int]:
        """Return the classes of what a node makes, its inputs having theirs."""
        node = side.flat.nodes[index]
        made = self._moved(side, node)
        if made is not None:
            return made
        inputs = [NONE if n == NONE else side.classes[n] for n in node.inputs]
        if node.op == CHOICE and node.domain == OWN and inputs[1] == inputs[2]:
            return [inputs[1]]
        while inputs and inputs[-1] == NONE:
            inputs.pop()
        attributes = attributes_of(node, side)
        if node.op in _SYMMETRIC and not node.domain and not attributes:
            inputs.sort()
        drawn: Hashable = None
        if index in side.flat.random:
            drawn = (node.path, node.proto.output[0])
        key = (node.op, node.domain, _version(node), attributes, tuple(inputs), drawn)
        return [
            NONE if number == NONE else self.of((key, slot))
            for slot, number in enumerate(node.outputs)
        ]

    def _moved(self, side: Side, node: Node) -> list[int] | None:
        """Return the classes of values that are known, and bytes that constants' only move to."""
        if node.domain == OWN:
            return None
        known = [None if n == NONE else side.value(n) for n in node.outputs]
        if all(
            n == NONE or (value is not None and value.dtype.kind in "biu")
            for n, value in zip(node.outputs, known, strict=True)
        ):
            return [NONE if v is None else self._value(v) for v in known]
        meaning = meaning_of(node.op, node.domain, node.opset)
        if meaning is None or not meaning.moves or len(node.outputs) != 1:
            return None
        inputs: list[np.ndarray | None] = []
        for number in node.inputs:
            if number == NONE:
                inputs.append(None)
            elif number in side.flat.tensors and number not in side.overridable:
                if np.prod(side.constants.shape(number)) > _LARGEST:
                    return None
                inputs.append(side.constants.load(number))
            elif (value := side.value(number)) is not None:
                inputs.append(value)
            else:
                return None
        made = evaluate(node.op, node.domain, node.opset, inputs, node.attributes, 1)
        if made is None or made[0].size > _LARGEST:
            return None
        return [self._value(made[0])]

    def _value(self, value: np.ndarray) -> int:
        if value.dtype.kind in "OUS":
            kind = int(onnx.TensorProto.STRING)
        else:
            kind = int(onnx.helper.np_dtype_to_tensor_dtype(value.dtype))
        content = content_of(value)
        return self._told((kind, tuple(value.shape)), _Content(None, 0, content))

    def _constant(self, side: Side, number: int) -> int:
        kind = kind_of(side.flat.tensors[number])
        place = side.constants.place(number)
        if place is not None and (kind, place) in self._places:
            return self._places[kind, place]
        found = self._told(kind, _Content(side, number, None))
        if place is not None:
            self._places[kind, place] = found
        return found

    def _told(self, kind: Hashable, content: _Content) -> int:
        """Return the class of a constant: that of one of the same bytes, if there is one."""
        alike = self._glances.setdefault((kind, content.glance()), [])
        for other in alike:
            if other.digest == content.digest:
                return other.number
        content.number = self.fresh()
        alike.append(content)
        return content.number


class _Content:
    """A constant that others are told from."""

    def __init__(self, side: Side | None, tensor: int, content: bytes | None) -> None:
        self._side = side
        self._tensor = tensor
        self._content = content
        self.number = NONE

    def glance(self) -> bytes:
        if self._side is not None:
            return self._side.constants.glance(self._tensor)
        content = self._content or b""
        return glance_of(content)

    @functools.cached_property
    def digest(self) -> bytes:
        if self._side is not None:
            return self._side.constants.digest(self._tensor)
        return digest_of([self._content or b""])


def _version(node: Node) -> Hashable:
    """Return what tells the meanings of an operator at several opsets apart."""
    if node.domain == OWN or node.op == "Loop":
        return None
    meaning = meaning_of(node.op, node.domain, node.opset)
    if meaning is not None and meaning.function is not None and "opset" not in meaning.attributes:
        return None  # one function for all of them
    return node.opset if node.domain else since_version(node.op, "", node.opset)


def attributes_of(node: Node, side: Side) -> tuple[tuple[str, Hashable], ...]:
    """Return a node's attributes, without those that say what their absence does."""
    given = node.attributes
    if not given:
        return ()
    defaults = _defaults(node.op, node.domain, node.opset)
    kept = [
        (name, value)
        for name, value in sorted((name, _frozen(value)) for name, value in given.items())
        if defaults.get(name, _NOTHING) != value
    ]
    if node.op in _WINDOWS and not node.domain:
        kept = [item for item in kept if not _says_nothing(*item, node, side)]
    return tuple(kept)


def _says_nothing(name: str, value: Any, node: Node, side: Side) -> bool:
    """Whether an attribute of a window says what its absence says too."""
    if name == "pads":
        return not any(value)
    if name in {"strides", "dilations"}:
        return all(step == 1 for step in value)
    if name != "kernel_shape" or not node.op.startswith("Conv"):
        return False
    weight = side.sizes[0].shapes.get(node.inputs[1])
    return weight is not None and tuple(value) == tuple(weight[2:])


_NOTHING = object()


@functools.cache
def _defaults(op: str, domain: str, opset: int) -> dict[str, Hashable]:
    try:
        schema = onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return {}
    found: dict[str, Hashable] = {}
    for name, attribute in schema.attributes.items():
        if attribute.default_value.name:
            value = onnx.helper.get_attribute_value(attribute.default_value)
            found[name] = _frozen(value.decode() if isinstance(value, bytes) else value)
    return found


def _frozen(value: Any) -> Hashable:
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, content_of(value))
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item) for item in value)
    return value  # type: ignore[no-any-return]

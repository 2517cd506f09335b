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

from normswap.dtypes import NUMPY_DTYPES
from normswap.proof.constants import Constants, content_of, digest_of, glance_of, kind_of
from normswap.proof.conversion import WIDE, roundings
from normswap.proof.flat import CHOICE, NONE, OWN, Flat, FlatNode
from normswap.semantics.constants import evaluate
from normswap.semantics.families import WINDOWS
from normswap.semantics.registry import meaning_of, since_version

if TYPE_CHECKING:
    from collections.abc import Hashable

    from normswap.proof.sizes import Sizes

_SYMMETRIC = frozenset({
    "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Max", "Mean", "Min", "Mul",
    "Or", "Sum", "Xor",
})  # fmt: skip
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
    narrow : int
        The type that the original was converted to, if that is what this model is
        (:mod:`normswap.proof.conversion`); else 0.
    readings : dict of int to FlatNode
        What tensors are read as made by, in the place of their makers
        (:mod:`normswap.proof.scaled`).
    stands_for : dict of int to int
        For the tensors that only these read: what is made of them.
    """

    flat: Flat
    constants: Constants
    sizes: tuple[Sizes, ...]
    classes: list[int] = field(default_factory=list, init=False)
    overridable: frozenset[int] = frozenset()
    narrow: int = 0
    readings: dict[int, FlatNode] = field(default_factory=dict, init=False)
    stands_for: dict[int, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Note what a caller may replace."""
        self.overridable = frozenset(self.flat.inputs.values()) & self.flat.tensors.keys()

    def may_be(self, original: int, own: int) -> bool:
        """Whether a tensor of a type may be one of the original's of another type.

        What computes in a wider type, as onnxruntime's optimizer makes of float16, rounds less.
        """
        if original == own or (original == WIDE and own == self.narrow != 0):
            return True
        if original not in NUMPY_DTYPES or own not in NUMPY_DTYPES:
            return False
        return NUMPY_DTYPES[own].itemsize > NUMPY_DTYPES[original].itemsize

    def maker(self, number: int) -> FlatNode | None:
        """Return what makes a tensor, or what it is read as made by."""
        return self.readings.get(number) or self.flat.makers[number]

    def value(self, number: int) -> np.ndarray | None:
        """Return what is known of a tensor that has one value only, whatever the input."""
        first = self.sizes[0]
        if number in first.values and (len(self.sizes) == 1 or number in first.constant):
            return first.values[number]
        return None


class ClassTable:
    """The classes, and what is known to be in them."""

    def __init__(self) -> None:
        self._ids: dict[Hashable, int] = {}
        self._glances: dict[Hashable, list[_Content]] = {}
        self._places: dict[Hashable, int] = {}
        self._narrow = 0
        self._rounded: dict[Hashable, dict[str, int]] = {}
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
        side.classes = [NONE] * len(flat.names)
        side.readings.clear()
        for name, number in flat.inputs.items():
            default = number in flat.tensors
            given = self._constant(side, number) if default else None
            side.classes[number] = self.of(("input", name, given))
        for number in flat.tensors:
            if side.classes[number] == NONE:
                side.classes[number] = self._constant(side, number)

    def walk(self, side: Side, narrow: int = 0) -> dict[int, int]:
        """Give all tensors of a model their classes; return the first tensor of each class.

        Where the other model is this one converted to a narrower type, what its constants round
        to are of their classes.
        """
        self._narrow = narrow
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
        if side.narrow and _only_converts(node, side):
            return [side.classes[node.inputs[0]]]
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

    def _moved(self, side: Side, node: FlatNode) -> list[int] | None:
        """Return the classes of values that are known, and bytes that constants' only move to."""
        if node.domain == OWN:
            return None
        known = [None if n == NONE else side.value(n) for n in node.outputs]
        if all(
            n == NONE or (value is not None and value.dtype.kind in "biu")
            for n, value in zip(node.outputs, known, strict=True)
        ):
            return [NONE if v is None else self._value(v, "") for v in known]
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
        return [self._value(made[0], side.flat.names[node.outputs[0]])]

    def _value(self, value: np.ndarray, name: str) -> int:
        if value.dtype.kind in "OUS":
            kind = int(onnx.TensorProto.STRING)
        else:
            kind = int(onnx.helper.np_dtype_to_tensor_dtype(value.dtype))
        content = _Content(None, 0, content_of(value))
        if kind == self._narrow:
            wide = self._widened(value.shape, content.digest, name)
            if wide is not None:
                return wide
        found = self._told((kind, tuple(value.shape)), content)
        if kind == WIDE and self._narrow:
            self._round(value, name, found)
        return found

    def _round(self, value: np.ndarray, name: str, found: int) -> None:
        """Note what a constant rounds to in the narrow type of the other model."""
        for made in roundings(value, self._narrow):
            key = (made.shape, digest_of([content_of(made)]))
            self._rounded.setdefault(key, {}).setdefault(name, found)

    def _widened(self, shape: tuple[int, ...], digest: bytes, name: str) -> int | None:
        """Return the class of what rounds to some bytes, that of its name if there are more."""
        named = self._rounded.get((shape, digest))
        return None if named is None else named.get(name, next(iter(named.values())))

    def _constant(self, side: Side, number: int) -> int:
        kind = kind_of(side.flat.tensors[number])
        name = side.flat.names[number]
        if kind[0] == self._narrow:
            wide = self._widened(kind[1], side.constants.digest(number), name)
            if wide is not None:
                return wide
        found = self._numbered(side, number, kind)
        if kind[0] == WIDE and self._narrow:
            self._round(side.constants.load(number), name, found)
        return found

    def _numbered(self, side: Side, number: int, kind: Hashable) -> int:
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


def _version(node: FlatNode) -> Hashable:
    """Return what tells the meanings of an operator at several opsets apart."""
    if node.domain == OWN or node.op == "Loop":
        return None
    meaning = meaning_of(node.op, node.domain, node.opset)
    if meaning is not None and meaning.function is not None and "opset" not in meaning.attributes:
        return None  # one function for all of them
    return node.opset if node.domain else since_version(node.op, "", node.opset)


def attributes_of(node: FlatNode, side: Side) -> tuple[tuple[str, Hashable], ...]:
    """Return a node's attributes, without those that say what their absence does."""
    given = node.attributes
    if not given:
        return ()
    defaults = _defaults(node.op, node.domain, node.opset)
    if side.narrow:
        given = {name: _as_wide(name, value, side.narrow) for name, value in given.items()}
    kept = [
        (name, value)
        for name, value in sorted((name, _frozen(value)) for name, value in given.items())
        if defaults.get(name, _NOTHING) != value
    ]
    if node.op in WINDOWS and not node.domain:
        kept = [item for item in kept if not _says_nothing(*item, node, side)]
    return tuple(kept)


def _only_converts(node: FlatNode, side: Side) -> bool:
    """Whether a node of a converted model makes a narrow tensor of a wide one, or back."""
    if node.op != "Cast" or not node.is_standard:
        return False
    return {side.flat.types[n] for n in (node.inputs[0], node.outputs[0])} <= {WIDE, side.narrow}


def _as_wide(name: str, value: Any, narrow: int) -> Any:
    """Return an attribute of a converted model as the original has it."""
    if name in {"to", "dtype"} and value == narrow:
        return WIDE
    if isinstance(value, np.ndarray) and value.dtype == NUMPY_DTYPES[narrow]:
        return value.astype(np.float32)
    return value


def _says_nothing(name: str, value: Any, node: FlatNode, side: Side) -> bool:
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

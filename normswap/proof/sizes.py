"""The shapes of a flat model's tensors, and the integers that make shapes, on inputs of some sizes.

What depends on sizes alone is computed, node after node: shapes by ONNX's own inference of single
nodes, integers by what the operators mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from normswap.proof.flat import CHOICE, ENTRY, NONE, OWN
from normswap.semantics.constants import evaluate
from normswap.semantics.families import RANDOM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.proof.constants import Constants
    from normswap.proof.flat import Flat, FlatNode

Shape = tuple[int, ...]
Inferred = dict[Any, list["Shape | None"]]
"""The shapes that nodes make, by all that these depend on."""

_LARGEST = 1 << 14  # elements of a value that is computed


@dataclass(slots=True)
class Sizes:
    """What is known of a flat model's tensors, by number.

    Attributes
    ----------
    shapes : dict of int to tuple of int
    values : dict of int to numpy.ndarray
        Of the tensors that depend on constants and sizes alone.
    constant : set of int
        Those among `values` that depend on no size.
    """

    shapes: dict[int, Shape] = field(default_factory=dict)
    values: dict[int, np.ndarray] = field(default_factory=dict)
    constant: set[int] = field(default_factory=set)


def sizes_of(
    flat: Flat, constants: Constants, given: Mapping[str, Shape], known: Inferred | None = None
) -> Sizes:
    """Work out shapes and integers.

    Parameters
    ----------
    flat : Flat
    constants : Constants
    given : Mapping of str to tuple of int
        Shapes of the model's inputs.
    known : dict, optional
        What was inferred of nodes before, of this model or another; filled in.
    """
    known = {} if known is None else known
    varying: set[int] = set()
    while True:
        inference = _infer_all(flat, constants, given, varying, known)
        if inference.varying <= varying:
            return inference.found
        varying |= inference.varying


def _infer_all(
    flat: Flat,
    constants: Constants,
    given: Mapping[str, Shape],
    varying: set[int],
    known: Inferred,
) -> _Inference:
    found = Sizes()
    overridable = set(flat.inputs.values())
    for name, number in flat.inputs.items():
        if name in given:
            found.shapes[number] = tuple(given[name])
    for number in flat.tensors:
        found.shapes[number] = constants.shape(number)
        if number not in overridable and math.prod(found.shapes[number]) <= _LARGEST:
            found.constant.add(number)
    inference = _Inference(flat, constants, found, varying, known)
    for node in flat.nodes:
        inference.node(node)
    return inference


class _Inference:
    """Works out what nodes make, one after the other.

    Attributes
    ----------
    found : Sizes
    varying : set of int
        The entries, by index, of bodies whose states change their sizes from turn to turn.
    """

    def __init__(
        self,
        flat: Flat,
        constants: Constants,
        found: Sizes,
        known_to_vary: set[int],
        known: Inferred,
    ) -> None:
        self._flat = flat
        self._constants = constants
        self.found = self._found = found
        self.varying: set[int] = set()
        self._known_to_vary = known_to_vary
        self._entries: dict[tuple[int, tuple[str, ...]], FlatNode] = {}
        self._known = known

    def node(self, node: FlatNode) -> None:
        """Work out what a node makes."""
        if node.domain == OWN:
            self._own(node)
            return
        if node.op in {"Loop", "Scan"}:
            self._leave(node)
            return
        if node.op not in RANDOM and self._computed(node):
            return
        if node.op in {"Shape", "Size"} and self._of_shape(node):
            return
        shapes = self._of_part(node) if node.op == "SequenceAt" else self._inferred(node)
        for number, shape in zip(node.outputs, shapes, strict=False):
            if number != NONE and shape is not None:
                self._found.shapes[number] = shape

    def _own(self, node: FlatNode) -> None:
        shapes = self._found.shapes
        if node.op == CHOICE:
            _, first, second = node.inputs
            if first in shapes and shapes.get(first) == shapes.get(second):
                shapes[node.outputs[0]] = shapes[first]
        elif node.op == ENTRY:
            self._entries[id(node.proto), node.path] = node
            self._enter(node)

    def _enter(self, node: FlatNode) -> None:
        """Give the inputs of a body their shapes: those of the first turn."""
        shapes = self._found.shapes
        if node.attributes["of"] == "Loop":
            for number in node.outputs[:2]:
                shapes[number] = ()
        for outside, inside in self._states(node):
            if node.index not in self._known_to_vary and outside in shapes:
                shapes[inside] = shapes[outside]
        if node.attributes["of"] == "Scan":
            count = node.attributes["num_scan_inputs"]
            axes = node.attributes.get("scan_input_axes") or [0] * count
            pairs = zip(node.inputs[-count:], node.outputs[-count:], axes, strict=False)
            for outside, inside, axis in pairs:
                whole = shapes.get(outside)
                if whole:
                    place = axis % len(whole)
                    shapes[inside] = (*whole[:place], *whole[place + 1 :])

    def _states(self, entry: FlatNode) -> list[tuple[int, int]]:
        """Return what is carried from turn to turn: outside, and as the body knows it."""
        if entry.attributes["of"] == "Loop":
            return list(zip(entry.inputs[2:], entry.outputs[2:], strict=False))
        count = len(entry.inputs) - entry.attributes["num_scan_inputs"]
        return list(zip(entry.inputs[:count], entry.outputs[:count], strict=False))

    def _leave(self, node: FlatNode) -> None:
        """Check that no state has changed its size, and take over the sizes of outputs."""
        shapes = self._found.shapes
        entry = self._entries[id(node.proto), node.path]
        made = node.inputs[len(entry.inputs) :]
        made = made[1:] if node.op == "Loop" else made
        states = self._states(entry)
        for (_, inside), after in zip(states, made, strict=False):
            if shapes.get(inside) != shapes.get(after):
                self.varying.add(entry.index)
        if self.varying or entry.index in self._known_to_vary:
            return
        for number, after in zip(node.outputs, made[: len(states)], strict=False):
            if number != NONE and after in shapes:
                shapes[number] = shapes[after]

    def value(self, number: int) -> np.ndarray | None:
        """Return a tensor that is known, None where it isn't."""
        if number in self._found.values:
            return self._found.values[number]
        if number in self._found.constant:
            return self._constants.load(number)
        return None

    def _computed(self, node: FlatNode) -> bool:
        """Compute what a node makes of what is known."""
        inputs = []
        for number in node.inputs:
            value = None if number == NONE else self.value(number)
            if value is None and number != NONE:
                return False
            inputs.append(value)
        used = [i for i, number in enumerate(node.outputs) if number != NONE]
        if not used:
            return True
        made = evaluate(node.op, node.domain, node.opset, inputs, node.attributes, max(used) + 1)
        if made is None or any(value.size > _LARGEST for value in made):
            return False
        fixed = all(n == NONE or n in self._found.constant for n in node.inputs)
        for number, value in zip(node.outputs, made, strict=False):
            if number != NONE:
                self._put(number, value, fixed=fixed)
        return True

    def _put(self, number: int, value: np.ndarray, *, fixed: bool) -> None:
        self._found.values[number] = value
        self._found.shapes[number] = value.shape
        if fixed:
            self._found.constant.add(number)

    def _of_shape(self, node: FlatNode) -> bool:
        shape = self._found.shapes.get(node.inputs[0])
        if shape is None:
            return False
        if node.op == "Size":
            value = np.array(math.prod(shape), np.int64)
        else:
            start, end = node.attributes.get("start", 0), node.attributes.get("end")
            value = np.array(shape[slice(start, end)], np.int64)
        self._put(node.outputs[0], value, fixed=node.inputs[0] in self._found.constant)
        return True

    def _of_part(self, node: FlatNode) -> list[Shape | None]:
        """Return the shape of one part of a tensor that was split into a sequence."""
        made, at = self._flat.makers[node.inputs[0]], self.value(node.inputs[1])
        if made is None or at is None:
            return []
        if made.op == "SequenceConstruct":
            return [self._found.shapes.get(made.inputs[int(at)])]
        whole = self._found.shapes.get(made.inputs[0])
        if made.op != "SplitToSequence" or whole is None:
            return []
        axis = made.attributes.get("axis", 0) % max(len(whole), 1)
        length = self.value(made.inputs[1]) if len(made.inputs) > 1 else np.array(1)
        if length is None:
            return []
        if length.ndim:
            lengths = [int(size) for size in length]
        else:
            starts = range(0, whole[axis], int(length))
            lengths = [min(int(length), whole[axis] - start) for start in starts]
        if not -len(lengths) <= int(at) < len(lengths):
            return []
        shape = (*whole[:axis], lengths[int(at)], *whole[axis + 1 :])
        squeezed = len(made.inputs) < 2 and not made.attributes.get("keepdims", 1)
        return [(*whole[:axis], *whole[axis + 1 :]) if squeezed else shape]

    def _inferred(self, node: FlatNode) -> list[Shape | None]:
        flat, shapes = self._flat, self._found.shapes
        if (node.domain, node.op) in _OF_ONE_SHAPE:
            return [shapes.get(node.inputs[0])]
        try:
            schema = onnx.defs.get_schema(node.op, node.opset, node.domain)
        except onnx.defs.SchemaError:
            return []
        kinds = [flat.types[n] if n != NONE else 0 for n in node.inputs]
        sizes = [shapes.get(n) if n != NONE else None for n in node.inputs]
        if any(n != NONE and not kind for n, kind in zip(node.inputs, kinds, strict=True)):
            return []  # a sequence, an optional
        values = {
            f"i{slot}": value
            for slot, number in enumerate(node.inputs)
            if number != NONE and slot and (value := self.value(number)) is not None
        }
        key = (
            node.op,
            node.domain,
            node.opset,
            node.proto.op_type,
            b"".join(a.SerializeToString() for a in node.proto.attribute),
            repr(node.attributes) if any(a.ref_attr_name for a in node.proto.attribute) else "",
            tuple(kinds),
            tuple(sizes),
            tuple(bool(n != NONE) for n in node.outputs),
            tuple((name, value.shape, value.tobytes()) for name, value in values.items()),
        )
        if key not in self._known:
            self._known[key] = _infer(schema, node, kinds, sizes, values)
        return self._known[key]


# What ONNX has no inference for.
_OF_ONE_SHAPE = frozenset(
    {
        ("", "GroupNormalization"),
        ("com.microsoft", "BiasGelu"),
        ("com.microsoft", "FastGelu"),
        ("com.microsoft", "Gelu"),
        ("com.microsoft", "QuickGelu"),
        ("com.microsoft", "SkipLayerNormalization"),
    }
)


def _infer(
    schema: Any,
    node: FlatNode,
    kinds: list[int],
    sizes: list[Shape | None],
    values: Mapping[str, np.ndarray],
) -> list[Shape | None]:
    bare = onnx.NodeProto(op_type=node.op, domain=node.domain)
    bare.input.extend(f"i{s}" if n != NONE else "" for s, n in enumerate(node.inputs))
    bare.output.extend(f"o{s}" if n != NONE else "" for s, n in enumerate(node.outputs))
    own = node.proto.op_type == node.op
    if own and not any(a.ref_attr_name for a in node.proto.attribute):
        bare.attribute.extend(node.proto.attribute)
    else:
        bare.attribute.extend(
            onnx.helper.make_attribute(name, value) for name, value in node.attributes.items()
        )
    types = {
        f"i{slot}": onnx.helper.make_tensor_type_proto(kind, size)
        for slot, (kind, size) in enumerate(zip(kinds, sizes, strict=True))
        if kind
    }
    data = {
        name: onnx.numpy_helper.from_array(value, name)
        for name, value in values.items()
        if value.dtype.kind in "iubf"
    }
    imports = [onnx.helper.make_opsetid(node.domain, node.opset)]
    try:
        made = onnx.shape_inference.infer_node_outputs(
            schema, bare, types, data, opset_imports=imports
        )
    except Exception:  # noqa: BLE001 - whatever it is: nothing is known of the shape
        return []
    shapes = [_shape(made.get(name)) for name in bare.output]
    before, after = sizes[0] if sizes else None, shapes[0]
    if node.op == "Reshape" and before is not None and after is not None:
        return shapes if math.prod(before) == math.prod(after) else []  # onnx does not mind
    return shapes


def _shape(kind: onnx.TypeProto | None) -> Shape | None:
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
        return None  # a window that is larger than what it goes over makes less than nothing
    return tuple(dim.dim_value for dim in dims)

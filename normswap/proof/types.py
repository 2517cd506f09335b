"""Element types: what operators make of what they read, and whether they take it.

A model with one that doesn't is none, whatever it makes: the arbiter computes with whatever it is
given, axes that are floats among it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import onnx

from normswap.proof.flat import NONE, OWN
from normswap.semantics.registry import meaning_of, since_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normswap.proof.flat import Flat, FlatNode


def takes(node: FlatNode, types: Mapping[int, int] | list[int]) -> bool:
    """Whether an operator takes tensors of the types that it reads, as far as both are known.

    Parameters
    ----------
    node : FlatNode
    types : by number of the tensor, its ``TensorProto.DataType``; 0 where it is none or not known
    """
    formal = _formal(node.op, node.domain, node.opset)
    shared: dict[str, int] = {}
    for slot, number in enumerate(node.inputs):
        kind = 0 if number == NONE else types[number]
        if not kind or not formal:
            continue
        name = f"tensor({onnx.TensorProto.DataType.Name(kind).lower()})"
        constraint, allowed = formal[min(slot, len(formal) - 1)]  # the last one may be variadic
        if name not in allowed or (constraint and shared.setdefault(constraint, kind) != kind):
            return False
    return True


@functools.cache
def _formal(op: str, domain: str, opset: int) -> tuple[tuple[str, frozenset[str]], ...]:
    """Return what each input is of: the constraint that others share, if any, and the types."""
    try:
        schema = onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return ()
    return tuple(
        (formal.type_str if formal.is_homogeneous else "", frozenset(formal.types))
        for formal in schema.inputs
    )


def made_types(node: FlatNode, types: Sequence[int]) -> list[int]:
    """Return the element types of a node's outputs, by its schema; 0 where unknown."""
    if node.domain == OWN:
        return []
    inputs, outputs = _formals(node.op, node.domain, node.opset)
    if not outputs and meaning_of(node.op, node.domain, node.opset) is not None:
        return [types[node.inputs[0]]]  # of a domain of which onnx has no schemas
    known: dict[str, int] = {}
    for slot, number in enumerate(node.inputs):
        if number != NONE and inputs:
            known.setdefault(inputs[min(slot, len(inputs) - 1)], types[number])
    return [known.get(kind) or _ELEMENT.get(kind) or _named(node) for kind in outputs]


def element_type(node: FlatNode, flat: Flat) -> int:
    """Return the element type of what is taken out of a sequence that was made in the graph."""
    made = flat.makers[node.inputs[0]]
    of_tensors = made is not None and made.op in {"SplitToSequence", "SequenceConstruct"}
    return flat.types[made.inputs[0]] if made is not None and of_tensors else 0


@functools.cache
def _formals(op: str, domain: str, opset: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the types of an operator's inputs and outputs: their names, or the only one."""
    try:
        schema = onnx.defs.get_schema(op, since_version(op, domain, opset) or opset, domain)
    except onnx.defs.SchemaError:
        return (), ()
    only = {
        c.type_param_str: c.allowed_type_strs[0]
        for c in schema.type_constraints
        if len(c.allowed_type_strs) == 1
    }
    inputs, outputs = (
        tuple(only.get(formal.type_str, formal.type_str) for formal in formals)
        for formals in (schema.inputs, schema.outputs)
    )
    return inputs, outputs


def _named(node: FlatNode) -> int:
    """Return the element type that attributes name."""
    named = node.attributes.get("to", node.attributes.get("dtype", 0))
    if node.op == "ConstantOfShape":
        value = node.attributes.get("value")
        kind = np.dtype(np.float32) if value is None else value.dtype
        return int(onnx.helper.np_dtype_to_tensor_dtype(kind))
    return named if isinstance(named, int) else 0


_ELEMENT = {f"tensor({name.lower()})": n for name, n in onnx.TensorProto.DataType.items()}

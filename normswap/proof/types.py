"""Whether operators take what they read: a model with one that doesn't is none, whatever it makes.

The arbiter computes with whatever it is given, axes that are floats among it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import onnx

from normswap.proof.flat import NONE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.proof.flat import Node


def takes(node: Node, types: Mapping[int, int] | list[int]) -> bool:
    """Whether an operator takes tensors of the types that it reads, as far as both are known.

    Parameters
    ----------
    node : Node
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

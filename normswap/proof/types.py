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
    allowed = _allowed(node.op, node.domain, node.opset)
    for slot, number in enumerate(node.inputs):
        kind = 0 if number == NONE else types[number]
        if not kind or not allowed:
            continue
        name = f"tensor({onnx.TensorProto.DataType.Name(kind).lower()})"
        if name not in allowed[min(slot, len(allowed) - 1)]:  # the last one may be variadic
            return False
    return True


@functools.cache
def _allowed(op: str, domain: str, opset: int) -> tuple[frozenset[str], ...]:
    try:
        schema = onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return ()
    return tuple(frozenset(formal.types) for formal in schema.inputs)

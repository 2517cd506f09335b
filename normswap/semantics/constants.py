"""Nodes of constants, evaluated in float64 and rounded once to the type that they make.

This is the arbiter's evaluation with a rounding behind it: a sum of float32 constants is what
float32 arithmetic makes of it, and a logarithm is right to the last bit. Where values only move,
they stay as they are, of whatever type and size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from normswap.dtypes import NUMPY_DTYPES, is_floating, round_to
from normswap.semantics.registry import Meaning, meaning_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def evaluate(
    op: str,
    domain: str,
    opset: int,
    inputs: Sequence[np.ndarray | None],
    attributes: Mapping[str, Any],
    n_outputs: int,
) -> list[np.ndarray] | None:
    """Return the outputs of one node.

    Parameters
    ----------
    op, domain, opset
        The operator; the opset is the version of its domain.
    inputs : sequence of numpy.ndarray or None
        None where an input is left out.
    attributes : mapping
        Tensors as arrays.
    n_outputs : int

    Returns
    -------
    list of numpy.ndarray or None
        None where it is not known what the node makes of such inputs.
    """
    meaning = meaning_of(op, domain, opset)
    if meaning is None or meaning.function is None:
        return None
    try:
        with np.errstate(all="ignore"):
            given = inputs if meaning.moves else [_wide(value) for value in inputs]
            results = meaning.evaluate(given, attributes, opset, n_outputs)
            return [
                _rounded(np.asarray(result), _type(meaning, opset, number, inputs, attributes))
                for number, result in enumerate(results)
            ]
    except Exception:  # noqa: BLE001 - inputs that the operator does not allow: a run-time value
        return None


def _wide(value: np.ndarray | None) -> np.ndarray | None:
    if value is None or not is_floating(value.dtype):
        return value
    if value.dtype not in NUMPY_DTYPES.values():
        raise ValueError(f"constants are not computed in {value.dtype}")
    return value.astype(np.float64)


def _rounded(value: np.ndarray, data_type: int | None) -> np.ndarray:
    """Return floats in a type of the model; what is None stays what it is."""
    if data_type is None or not is_floating(value.dtype):
        return value
    if value.dtype == NUMPY_DTYPES[data_type]:
        return value
    return round_to(value, data_type).reshape(value.shape)


def _type(
    meaning: Meaning,
    opset: int,
    number: int,
    inputs: Sequence[np.ndarray | None],
    attributes: Mapping[str, Any],
) -> int | None:
    """Return the type of an output: one that an attribute names, or that of an input.

    None where values only moved, and have it already.
    """
    if meaning.moves:
        return None
    named = attributes.get("to", attributes.get("dtype", attributes.get("output_datatype")))
    if isinstance(named, str):
        return int(onnx.TensorProto.DataType.Value(named))
    if named is not None:
        return int(named)
    schema = onnx.defs.get_schema(meaning.name, opset, meaning.domain)
    outputs, formals = schema.outputs, schema.inputs
    kind = outputs[min(number, len(outputs) - 1)].type_str
    for index, value in enumerate(inputs):
        if formals[min(index, len(formals) - 1)].type_str == kind and value is not None:
            return int(onnx.helper.np_dtype_to_tensor_dtype(value.dtype))
    return int(onnx.TensorProto.FLOAT)

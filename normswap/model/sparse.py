"""Sparse constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx


def dense(tensor: onnx.SparseTensorProto) -> np.ndarray[Any, Any]:
    """Return the values of a sparse constant, with zeros where it has none."""
    values = onnx.numpy_helper.to_array(tensor.values)
    indices = onnx.numpy_helper.to_array(tensor.indices)
    array = np.zeros(tuple(tensor.dims), values.dtype)
    if indices.ndim == 1:
        array.ravel()[indices] = values
    else:
        array[tuple(indices.T)] = values
    return array

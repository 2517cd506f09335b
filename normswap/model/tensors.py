"""Tensor values that are read, or computed, only when they are needed.

Every constant of a loaded model is a :class:`TensorSource`: its type and shape are known at once,
its bytes stay in the file (inline in the ``.onnx`` or in external data) until :meth:`load` is
called, and are not kept afterwards. A folded weight is a source too, one that computes itself from
other sources when it is written; so a model of any size is rewritten in the memory of one layer.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt


@runtime_checkable
class TensorSource(Protocol):
    """A constant tensor whose values are produced on demand."""

    @property
    def data_type(self) -> int:
        """Element type, an ``onnx.TensorProto.DataType``."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that :meth:`load` returns."""
        ...

    def load(self) -> npt.NDArray[Any]:
        """Return a fresh array of the values; bfloat16 and float8 come as ``ml_dtypes``."""
        ...

"""Between graphsurgeon's constants and :class:`TensorSource`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.model import bare
from normswap.model.stored import LazyTensor
from normswap.model.tensors import ArrayTensor, TensorSource

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx_graphsurgeon as gs


class ComputedTensor(LazyTensor):
    """Any :class:`TensorSource` as the values of a graphsurgeon constant.

    Parameters
    ----------
    source : TensorSource
    """

    def __init__(self, source: TensorSource) -> None:
        super().__init__(source.data_type, source.shape)
        self.source = source

    def load(self) -> npt.NDArray[Any]:
        """Compute the values."""
        return self.source.load()


def make_constant(name: str, source: TensorSource) -> gs.Constant:
    """Return a new constant whose values are computed when the model is written.

    Parameters
    ----------
    name : str
        A name that no other tensor of the graph and its subgraphs has.
    source : TensorSource
    """
    return bare.constant(name, source if isinstance(source, LazyTensor) else ComputedTensor(source))


def source_of(constant: gs.Constant) -> TensorSource:
    """Return the values of a constant, not yet loaded.

    Use this, and never ``constant.values``, which loads the values, keeps them in memory and may
    change their type.
    """
    values = constant._values  # noqa: SLF001 - reading the property loads and caches the array
    if isinstance(values, ComputedTensor):
        return values.source
    if isinstance(values, LazyTensor):
        source: TensorSource = values
        return source
    return ArrayTensor(np.asarray(values))

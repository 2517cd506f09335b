"""One normalization layer, as the forms see it: its tensors, its numbers, its surroundings.

A layer names tensors and holds none, so that it outlives the model that it was found in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from normswap.graph.sizes import is_in_doubt

if TYPE_CHECKING:
    from normswap.graph.sizes import Dim

HALF_PRECISION = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})


@dataclass(frozen=True, slots=True)
class Runtime:
    """A scale or bias that is computed at run time, or that a caller may override.

    Attributes
    ----------
    name : str
        Of a tensor ``(C,)``.
    data_type : int
        ``TensorProto.DataType``
    """

    name: str
    data_type: int


Parameter = npt.NDArray[np.float64] | Runtime | None
"""A scale or bias: a constant ``(C,)`` array, a named tensor, or None where it has no effect."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What is to be computed: ``y = scale * (x - mean) / sqrt(var + epsilon) + bias`` by groups.

    Attributes
    ----------
    name : str
        What the names of nodes and tensors start with.
    x, y : str
        Names of tensors ``(N, C, *spatial)``.
    scale, bias : Parameter
        ``(C,)``
    channels, num_groups : int
        C and G; G divides C.
    epsilon : float
    shape : tuple or None
        Of x: an int where static, a name or None where not; None as a whole if not even the rank
        is known.
    data_type : int
        ``TensorProto.DataType`` of x and y.
    opset : int
    activation : str
        ``"silu"`` where y is the SiLU of that; else empty.
    depthwise_affine : bool
        Whether a constant affine is faster as a 1x1 depthwise convolution than as Mul and Add.
    before_convolution : bool
        Whether a convolution reads y, perhaps through an activation.
    """

    name: str
    x: str
    y: str
    scale: Parameter
    bias: Parameter
    channels: int
    num_groups: int
    epsilon: float
    shape: tuple[Dim, ...] | None
    data_type: int
    opset: int
    activation: str = ""
    depthwise_affine: bool = False
    before_convolution: bool = False

    @property
    def rank(self) -> int | None:
        """Number of axes of x, None where unknown."""
        return None if self.shape is None else len(self.shape)

    @property
    def is_instance(self) -> bool:
        """Whether every channel is a group of its own."""
        return self.num_groups == self.channels

    @property
    def compute_type(self) -> int:
        """Element type of the statistics: float32 for half precision, else that of x."""
        return TensorProto.FLOAT if self.data_type in HALF_PRECISION else self.data_type

    @property
    def has_sizes_in_doubt(self) -> bool:
        """Whether ONNX may infer other sizes of x than runtimes make, such as behind ``ceil_mode``.

        onnxruntime then computes with what ONNX infers where a node asks for the shape of x.
        """
        return self.shape is not None and any(map(is_in_doubt, self.shape))

    @property
    def group_elements(self) -> int | None:
        """Number of elements of a group of one sample, None where a size is not static."""
        return elements_of_group(self.shape, self.channels, self.num_groups)


def elements_of_group(shape: tuple[Dim, ...] | None, channels: int, num_groups: int) -> int | None:
    """Return how many elements of one sample are in a group, None where a size is not static.

    Parameters
    ----------
    shape : tuple or None
        Of (N, C, *spatial).
    channels, num_groups : int
    """
    if shape is None:
        return None
    count = channels // num_groups
    for dim in shape[2:]:
        if not isinstance(dim, int):
            return None
        count *= dim
    return count


def effective(values: npt.NDArray[np.float64], neutral: float) -> npt.NDArray[np.float64] | None:
    """Return a constant scale or bias, None where it has no effect."""
    return None if bool((values == neutral).all()) else values

"""Quantized weights: ``(q - zero_point) * scale`` by DequantizeLinear, scaled without a rounding.

A factor per channel goes into the scales, its sign into the integers, so that scales stay positive:
where it is negative, q becomes ``2*zero_point - q``, if that is in the range of its type (of int8
weights with zero point 0, -128 is not). Per-tensor scales become per-channel ones (opset 13).

Source: ONNX operator DequantizeLinear, opsets 10, 13 (``axis``), 21 (``block_size``, int4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from normswap.folding.edits import Duplicate, Edit, Replace, SetAttribute
from normswap.graph.expressions import Expression
from normswap.graph.formulas import Scaled
from normswap.graph.network import Use
from normswap.graph.quantized import Dequantized, Transposed
from normswap.graph.reasons import Blocked, Reason

if TYPE_CHECKING:
    import numpy.typing as npt

    from normswap.dtypes import Wide
    from normswap.graph.network import Node, Value
    from normswap.model import TensorSource


@dataclass(frozen=True, eq=False)
class Mirrored(Expression):
    """Quantized values with the sign of some channels changed: ``2*zero_point - q``.

    Parameters
    ----------
    weight : Dequantized
    negative : ndarray of bool
        Which; broadcastable to the weight.
    """

    weight: Dequantized
    negative: npt.NDArray[np.bool_]

    @property
    def data_type(self) -> int:  # type: ignore[override]
        """Type of the stored values."""
        return self.weight.stored.data_type

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of the weight."""
        return self.weight.shape

    def wide(self) -> Wide:
        values = self.weight.stored.load().astype(np.float64)
        zero_point: Any = 0.0
        if self.weight.zero_point is not None:
            zero_point = self.weight.spread(self.weight.zero_point.load().astype(np.float64))
        return np.where(self.negative, 2 * zero_point - values, values)

    def load(self) -> npt.NDArray[Any]:
        return self.wide().astype(self.weight.stored.load().dtype)

    def problem(self) -> str | None:
        return None  # it is only made where every value is in range


def scaled(weight: Dequantized | Transposed, use: Use, factor: Wide) -> tuple[Edit, ...]:
    """Return the edits that multiply a quantized weight.

    Parameters
    ----------
    weight : Dequantized or Transposed
    use : Use
        Where it is read as a weight.
    factor : ndarray
        As many axes as the weight.

    Raises
    ------
    Blocked
        If its scales or integers can't take the factor.
    """
    if isinstance(weight, Transposed):
        value = weight.node.out
        if not value.is_private:
            detail = (
                f"{value.name}, a quantized and transposed weight, is also read by another node"
            )
            raise Blocked(Reason.SEVERAL_READERS, value.name, detail)
        back = np.argsort(weight.perm)
        return scaled(weight.base, Use(weight.node, 0), factor.transpose(back))
    node, value = weight.node, weight.node.out
    if np.broadcast_shapes(weight.shape, factor.shape) != weight.shape:
        detail = f"{value.name}, a quantized weight, would have to grow to absorb the scale"
        raise Blocked(Reason.QUANTIZED_WEIGHT, value.name, detail)
    if node.graph is not use.node.graph:
        detail = f"{value.name}, a quantized weight, is computed outside this subgraph"
        raise Blocked(Reason.OUTER_SCOPE, value.name, detail)
    factor = _shortened(factor)
    edits: list[Edit] = []
    if not value.is_private:
        edits.append(Duplicate(node.key, use.node.key, use.slot))
    negative = factor < 0
    if negative.any():
        mirrored = Mirrored(weight, negative)
        low, high = _range(weight.stored.load().dtype)
        values = mirrored.wide()
        if values.size and not (low <= values.min() and values.max() <= high):
            detail = (
                f"the scale is negative, and -{value.name} does not fit the integers of its type"
            )
            raise Blocked(Reason.QUANTIZED_WEIGHT, value.name, detail)
        edits.append(Replace(node.key, 0, mirrored, node.operand(0).name))
    return (*edits, *_scales(weight, value, np.abs(factor)))


def _shortened(array: Wide) -> Wide:
    """Shorten the axes along which nothing varies."""
    for axis, size in enumerate(array.shape):
        first = array.take([0], axis) if size > 1 else array
        if (array == first).all():
            array = first
    return array


def _scales(weight: Dequantized, value: Value, factor: Wide) -> list[Edit]:
    """Return the edits that multiply the scales by a factor that is nowhere negative."""
    node, scale = weight.node, weight.scale
    second, third = node.inputs[1], node.input(2)
    varying = [axis for axis, size in enumerate(factor.shape) if size > 1]
    other = Blocked(
        Reason.QUANTIZED_WEIGHT,
        value.name,
        f"{value.name} has its quantization scales along another axis",
    )
    if second is None:
        raise other
    if not varying:
        return [Replace(node.key, 1, Scaled(scale, factor.reshape(())), second.name)]
    if len(varying) > 1:
        raise other
    (axis,) = varying
    if weight.block:
        if axis == weight.axis:
            raise other
        return [Replace(node.key, 1, Scaled(scale, factor), second.name)]
    vector = factor.reshape(-1)
    if np.prod(scale.shape, dtype=np.int64) > 1:
        if axis != weight.axis:
            raise other
        return [Replace(node.key, 1, Scaled(scale, vector), second.name)]
    if node.opset < 13:
        detail = (
            f"{value.name} has one quantization scale, "
            f"and one per channel needs opset 13 (the model has {node.opset})"
        )
        raise Blocked(Reason.QUANTIZED_WEIGHT, value.name, detail)
    edits: list[Edit] = [
        Replace(node.key, 1, Scaled(scale, vector), second.name),
        SetAttribute(node.key, "axis", axis),
    ]
    if third is not None and weight.zero_point is not None:
        repeated = Repeated(weight.zero_point, len(vector))
        edits.append(Replace(node.key, 2, repeated, third.name))
    return edits


@dataclass(frozen=True, eq=False)
class Repeated(Expression):
    """A zero point of all channels, once for each.

    Parameters
    ----------
    source : TensorSource
        Of one element.
    count : int
    """

    source: TensorSource
    count: int

    @property
    def data_type(self) -> int:  # type: ignore[override]
        """Type of the stored values."""
        return self.source.data_type

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """One axis."""
        return (self.count,)

    def wide(self) -> Wide:
        return self.load().astype(np.float64)

    def load(self) -> npt.NDArray[Any]:
        return np.repeat(self.source.load().reshape(1), self.count)

    def problem(self) -> str | None:
        return None  # nothing is computed


def rounded(node: Node, slot: int) -> Blocked:
    """Refuse what a quantized bias would become: it has no exact quantized values."""
    name = node.operand(slot).name
    detail = (
        f"{name}, the bias of {node.op} {node.title}, is quantized and would have to be rounded"
    )
    return Blocked(Reason.QUANTIZED_BIAS, name, detail)


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the smallest and largest finite value of a stored type."""
    try:
        info: Any = ml_dtypes.iinfo(dtype)
    except ValueError:
        info = ml_dtypes.finfo(dtype)
    return float(info.min), float(info.max)

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

from normswap.dtypes import Wide, is_float, wide_dtype
from normswap.finite import flaw_of
from normswap.folding.answers import Block
from normswap.folding.edits import Duplicate, Edit, Replace, SetAttribute
from normswap.folding.evaluate import constant_of, constant_source
from normswap.folding.expressions import Expression, Scaled, magnitude
from normswap.folding.graph import Use
from normswap.folding.reasons import Reason

if TYPE_CHECKING:
    import numpy.typing as npt

    from normswap.finite import Flaw
    from normswap.folding.graph import Node, Value
    from normswap.model import TensorSource


@dataclass(frozen=True, eq=False)
class Dequantized(Expression):
    """A weight that DequantizeLinear makes of constants.

    Parameters
    ----------
    node : Node
        The DequantizeLinear.
    stored : TensorSource
        The integers (or floats of 8 bits and fewer), ``(q)``.
    scale : Expression
        Of shape (), (1), (size of ``axis``), or blocked.
    zero_point : TensorSource or None
        Of the scale's shape.
    axis : int
    block : int
        Elements along ``axis`` that share a scale; 0 where scales are per tensor or per channel.
    """

    node: Node
    stored: TensorSource
    scale: Expression
    zero_point: TensorSource | None
    axis: int
    block: int

    @property
    def data_type(self) -> int:  # type: ignore[override]
        """Float type of the scale."""
        return self.scale.data_type

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of the weight."""
        return tuple(self.stored.shape)

    def wide(self) -> Wide:
        dtype = wide_dtype(self.data_type)
        weight = self.stored.load().astype(dtype)
        if self.zero_point is not None:
            weight -= self.spread(self.zero_point.load().astype(dtype))
        weight *= self.spread(self.scale.wide().astype(dtype))
        return weight

    def bound(self) -> float:
        return magnitude(self.wide())

    def operands(self) -> tuple[Expression, ...]:
        return (self.scale,)

    def flaw(self) -> Flaw | None:
        stored = self.node.inputs[0]
        name = "" if stored is None else stored.name
        return super().flaw() or flaw_of(name, self.stored.load())

    def spread(self, parameter: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Lay a scale or zero point out so that it broadcasts to the weight."""
        if parameter.size == 1:
            return parameter.reshape(())
        if self.block:
            length = self.shape[self.axis]
            return parameter.repeat(self.block, self.axis).take(range(length), self.axis)
        return parameter.reshape((-1, *(1,) * (len(self.shape) - self.axis - 1)))


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

    def bound(self) -> float:
        return magnitude(self.wide())

    def problem(self) -> str | None:
        return None  # it is only made where every value is in range


@dataclass(frozen=True, eq=False)
class Transposed(Expression):
    """A quantized weight that is transposed at run time, as PyTorch's Linear has it.

    Parameters
    ----------
    node : Node
        The Transpose.
    base : Dequantized
    perm : tuple of int
    """

    node: Node
    base: Dequantized
    perm: tuple[int, ...]

    @property
    def data_type(self) -> int:  # type: ignore[override]
        """Float type of the scale."""
        return self.base.data_type

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of the base, permuted."""
        return tuple(self.base.shape[axis] for axis in self.perm)

    def wide(self) -> Wide:
        return self.base.wide().transpose(self.perm)

    def bound(self) -> float:
        return self.base.bound()

    def operands(self) -> tuple[Expression, ...]:
        return (self.base,)


def quantized(value: Value | None) -> Dequantized | Transposed | None:
    """Return a quantized constant, perhaps transposed, None if a value is none."""
    node = None if value is None else value.producer
    if node is None or node.op != "Transpose" or node.domain or node.refers_to_attributes:
        return dequantized(value)
    base = dequantized(node.input(0))
    if base is None:
        return None
    perm = node.attr("perm", None) or range(len(base.shape))[::-1]
    return Transposed(node, base, tuple(int(axis) for axis in perm))


def dequantized(value: Value | None) -> Dequantized | None:
    """Return a quantized constant, None if a value is none."""
    node = None if value is None else value.producer
    if node is None or node.op != "DequantizeLinear" or node.domain or node.refers_to_attributes:
        return None
    first, second, third = (node.input(slot) for slot in range(3))
    if first is None or second is None:
        return None
    stored, scale = constant_source(first), constant_of(second)
    zero_point = None if third is None else constant_source(third)
    if isinstance(stored, Block) or isinstance(scale, Block) or isinstance(zero_point, Block):
        return None
    if node.attr("output_dtype", 0) not in (0, scale.data_type) or not is_float(scale.data_type):
        return None
    rank = len(stored.shape)
    axis = int(node.attr("axis", 1))
    axis += rank if axis < 0 else 0
    block = int(node.attr("block_size", 0))
    per_tensor = tuple(scale.shape) in {(), (1,)}
    if not per_tensor and not 0 <= axis < rank:
        return None
    if not per_tensor and not block and tuple(scale.shape) != (stored.shape[axis],):
        return None
    return Dequantized(node, stored, scale, zero_point, axis, 0 if per_tensor else block)


def scaled(weight: Dequantized | Transposed, use: Use, factor: Wide) -> tuple[Edit, ...] | Block:
    """Return the edits that multiply a quantized weight.

    Parameters
    ----------
    weight : Dequantized or Transposed
    use : Use
        Where it is read as a weight.
    factor : ndarray
        As many axes as the weight.
    """
    if isinstance(weight, Transposed):
        value = weight.node.out
        if len(value.readers) > 1 or value.is_output or value.captured:
            detail = f"{value.name}, which is quantized and transposed, is also read elsewhere"
            return Block(Reason.SEVERAL_READERS, value.name, detail)
        back = np.argsort(weight.perm)
        return scaled(weight.base, Use(weight.node, 0), factor.transpose(back))
    node, value = weight.node, weight.node.out
    if np.broadcast_shapes(weight.shape, factor.shape) != weight.shape:
        detail = f"{value.name}, which is quantized, would become larger"
        return Block(Reason.QUANTIZED_WEIGHT, value.name, detail)
    if node.graph is not use.node.graph:
        detail = f"{value.name}, which is quantized, comes from outside"
        return Block(Reason.OUTER_SCOPE, value.name, detail)
    factor = _shortened(factor)
    edits: list[Edit] = []
    if len(value.readers) > 1 or value.is_output or value.captured:
        edits.append(Duplicate(node.key, use.node.key, use.slot))
    negative = factor < 0
    if negative.any():
        mirrored = Mirrored(weight, negative)
        low, high = _range(weight.stored.load().dtype)
        values = mirrored.wide()
        if values.size and not (low <= values.min() and values.max() <= high):
            detail = f"{value.name} has quantized values whose negative is beyond their type"
            return Block(Reason.QUANTIZED_WEIGHT, value.name, detail)
        edits.append(Replace(node.key, 0, mirrored, node.inputs[0].name))  # type: ignore[union-attr]
    scales = _scales(weight, value, np.abs(factor))
    if isinstance(scales, Block):
        return scales
    return (*edits, *scales)


def _shortened(array: Wide) -> Wide:
    """Shorten the axes along which nothing varies."""
    for axis, size in enumerate(array.shape):
        first = array.take([0], axis) if size > 1 else array
        if (array == first).all():
            array = first
    return array


def _scales(weight: Dequantized, value: Value, factor: Wide) -> list[Edit] | Block:
    """Return the edits that multiply the scales by a factor that is nowhere negative."""
    node, scale = weight.node, weight.scale
    second, third = node.inputs[1], node.input(2)
    varying = [axis for axis, size in enumerate(factor.shape) if size > 1]
    other = Block(
        Reason.QUANTIZED_WEIGHT, value.name, f"{value.name} has its scales along another axis"
    )
    if second is None:
        return other
    if not varying:
        return [Replace(node.key, 1, Scaled(scale, factor.reshape(())), second.name)]
    if len(varying) > 1:
        return other
    (axis,) = varying
    if weight.block:
        if axis == weight.axis:
            return other
        return [Replace(node.key, 1, Scaled(scale, factor), second.name)]
    vector = factor.reshape(-1)
    if np.prod(scale.shape, dtype=np.int64) > 1:
        if axis != weight.axis:
            return other
        return [Replace(node.key, 1, Scaled(scale, vector), second.name)]
    if node.opset < 13:
        detail = f"{value.name} has one scale, and opset {node.opset} knows none per channel"
        return Block(Reason.QUANTIZED_WEIGHT, value.name, detail)
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

    def bound(self) -> float:
        return magnitude(self.wide())

    def problem(self) -> str | None:
        return None  # nothing is computed


def rounded(node: Node, slot: int) -> Block:
    """Say that what a quantized bias of a node would become has no exact quantized values."""
    name = node.inputs[slot].name  # type: ignore[union-attr]
    detail = f"{name}, the bias of {node.op} {node.title}, is quantized, and would be rounded"
    return Block(Reason.QUANTIZED_BIAS, name, detail)


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the smallest and largest finite value of a stored type."""
    try:
        info: Any = ml_dtypes.iinfo(dtype)
    except ValueError:
        info = ml_dtypes.finfo(dtype)
    return float(info.min), float(info.max)

"""Quantized weights as constants: ``(q - zero_point) * scale`` by DequantizeLinear.

Source: ONNX operator DequantizeLinear, opsets 10, 13 (``axis``), 21 (``block_size``, int4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from normswap.dtypes import Wide, is_float, wide_dtype
from normswap.finite import Flaw, flaw_of
from normswap.graph.evaluate import constant_of, constant_source
from normswap.graph.expressions import Expression
from normswap.graph.reasons import unless_blocked

if TYPE_CHECKING:
    import numpy.typing as npt

    from normswap.graph.network import Node, Value
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
class Transposed(Expression):
    """A quantized weight that is transposed at run time, as PyTorch's Linear has it.

    Parameters
    ----------
    node : Node
        The Transpose.
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
    stored, scale = unless_blocked(constant_source, first), unless_blocked(constant_of, second)
    zero_point = None if third is None else unless_blocked(constant_source, third)
    if stored is None or scale is None or (third is not None and zero_point is None):
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

"""Constants that are computed from other constants, in wide arithmetic and only when asked.

A fold replaces a constant by a formula over it, such as ``W * s``. The formula is kept as an
:class:`Expression`; several folds into one constant nest, and the whole is evaluated once, with one
rounding, when the model is written. So planning reads no weights (but for a look at their range),
and a model of any size is folded in the memory of one layer.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import NUMPY_DTYPES, Wide, largest, round_to, wide_dtype

if TYPE_CHECKING:
    import numpy.typing as npt

    from normswap.model.tensors import TensorSource


class Expression(ABC):
    """A constant with a formula: a :class:`~normswap.model.tensors.TensorSource` of float type."""

    data_type: int
    shape: tuple[int, ...]

    @abstractmethod
    def wide(self) -> Wide:
        """Evaluate the formula, not yet rounded: a fresh array of :attr:`shape`."""

    @abstractmethod
    def bound(self) -> float:
        """Return an upper bound of the magnitude of all values; NaN if any is not a number."""

    def load(self) -> npt.NDArray[Any]:
        """Evaluate the formula and round it once to :attr:`data_type`."""
        return np.ascontiguousarray(round_to(self.wide(), self.data_type)).reshape(self.shape)

    def problem(self) -> str | None:
        """Say why the stored values would not be what the formula says, or None.

        Returns
        -------
        str or None
            ``"non-finite"`` where an operand is not finite, ``"overflow"`` where a value is beyond
            the range of :attr:`data_type`.
        """
        if self.bound() <= largest(self.data_type):
            return None
        wide = self.wide()  # the bound is loose; the values decide
        if not np.isfinite(wide).all():
            return "non-finite"
        return None if np.isfinite(self.load().astype(np.float64)).all() else "overflow"


def widened(array: Wide, like: np.dtype[Any]) -> Wide:
    """Return a small factor in the arithmetic of the constant that it is combined with."""
    return array.astype(like, copy=False)


def magnitude(array: npt.NDArray[Any]) -> float:
    """Return ``max(abs(array))`` without a temporary of its size; 0 of an empty array."""
    if array.size == 0:
        return 0.0
    return float(np.maximum(array.max(), -array.min()))


@dataclass(frozen=True, eq=False)
class Leaf(Expression):
    """A constant of the model as it is.

    Parameters
    ----------
    source : TensorSource
        Where its values come from; of a float type.
    """

    source: TensorSource
    data_type: int = field(init=False)
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_type", self.source.data_type)
        object.__setattr__(self, "shape", tuple(self.source.shape))

    def wide(self) -> Wide:
        return self.source.load().astype(wide_dtype(self.data_type))

    @functools.cached_property
    def _magnitude(self) -> float:
        values = self.source.load()
        if values.dtype == NUMPY_DTYPES[16]:  # numpy has no fast maximum over bfloat16
            values = values.astype(np.float32)
        return magnitude(values)

    def bound(self) -> float:
        return self._magnitude


@dataclass(frozen=True, eq=False)
class Filled(Expression):
    """New values, such as the bias of a Conv that had none.

    Parameters
    ----------
    values : (...,) ndarray of float64 or long double
    data_type : int
        The float type in which they are stored.
    """

    values: Wide
    data_type: int

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of the values."""
        return self.values.shape

    def wide(self) -> Wide:
        return self.values.astype(wide_dtype(self.data_type))

    def bound(self) -> float:
        return magnitude(self.values)


@dataclass(frozen=True, eq=False)
class Scaled(Expression):
    """``base * scale + shift``, elementwise, NumPy broadcasting.

    Parameters
    ----------
    base : Expression
    scale, shift : ndarray of float64 or long double
        Broadcastable with each other and with ``base``; their common shape is the result's.
    """

    base: Expression
    scale: Wide
    shift: Wide | None = None

    @property
    def data_type(self) -> int:  # type: ignore[override]
        """Float type of the base."""
        return self.base.data_type

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of the base, broadcast with scale and shift."""
        shift = () if self.shift is None else self.shift.shape
        return np.broadcast_shapes(self.base.shape, self.scale.shape, shift)

    def wide(self) -> Wide:
        dtype = wide_dtype(self.data_type)
        base = self.base.wide()
        scale = widened(self.scale, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            if base.shape == self.shape:
                base *= scale  # ours alone, and possibly a large layer
            else:
                base = base * scale
            if self.shift is not None:
                base = base + widened(self.shift, dtype)
        return base if base.shape == self.shape else np.broadcast_to(base, self.shape).copy()

    def bound(self) -> float:
        shift = 0.0 if self.shift is None else magnitude(self.shift)
        return self.base.bound() * magnitude(self.scale) + shift


@dataclass(frozen=True, eq=False)
class Summed(Expression):
    """``base + sum(weight * factor, axes)``: what a shift adds through a weight.

    Parameters
    ----------
    base : Expression or None
        The bias there was.
    weight : Expression
    factor : ndarray
        Broadcastable with ``weight``.
    axes : tuple of int
        The axes of ``weight`` that are summed.
    gain : float
        A constant factor of the sum, such as Gemm's alpha.
    """

    base: Expression | None
    weight: Expression
    factor: Wide
    axes: tuple[int, ...]
    gain: float = 1.0

    @property
    def data_type(self) -> int:  # type: ignore[override]
        """Float type of the weight."""
        return self.weight.data_type if self.base is None else self.base.data_type

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of the sum, broadcast with the base."""
        rest = tuple(d for i, d in enumerate(self.weight.shape) if i not in self.axes)
        return rest if self.base is None else np.broadcast_shapes(self.base.shape, rest)

    def wide(self) -> Wide:
        dtype = wide_dtype(self.weight.data_type)
        with np.errstate(over="ignore", invalid="ignore"):
            weight = self.weight.wide() * widened(self.factor, dtype)
            total: Wide = weight.sum(axis=self.axes, dtype=dtype) * self.gain
        return total if self.base is None else self.base.wide() + total

    def bound(self) -> float:
        terms = int(np.prod([self.weight.shape[axis] for axis in self.axes], dtype=np.int64))
        total = self.weight.bound() * magnitude(self.factor) * terms * abs(self.gain)
        return total + (0.0 if self.base is None else self.base.bound())

"""What folds make of constants: products, sums, and one laid over another.

They nest (:mod:`normswap.graph.expressions`): where the factors of two are as well multiplied or
added beforehand, the result is one formula over the constant of the model.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import Wide, round_to, wide_dtype
from normswap.graph.expressions import Expression, Leaf
from normswap.graph.extremes import AT_ONCE, extremes, magnitude

if TYPE_CHECKING:
    import numpy.typing as npt


broadcast = functools.lru_cache(np.broadcast_shapes)
"""The shape to which shapes broadcast: a network has few, and NumPy makes arrays to tell."""


def widened(array: Wide, like: np.dtype[Any]) -> Wide:
    """Return a small factor in the arithmetic of the constant that it is combined with."""
    return array.astype(like, copy=False)


@dataclass(frozen=True, eq=False)
class Scaled(Expression):
    """``base * scale + shift``, elementwise, NumPy broadcasting.

    Scaled twice is scaled once: where that takes no more memory, the factors are multiplied and the
    base of the base is kept, so that a constant that many folds reach stays one formula.

    Parameters
    ----------
    scale, shift : ndarray of float64 or long double
        Broadcastable with each other and with ``base``; their common shape is the result's.

    Raises
    ------
    ValueError
        If they are not.
    """

    base: Expression
    scale: Wide
    shift: Wide | None = None
    data_type: int = field(init=False)
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        inner = self.base
        object.__setattr__(self, "data_type", inner.data_type)
        added = () if self.shift is None else self.shift.shape
        shape = broadcast(inner.shape, self.scale.shape, added)
        object.__setattr__(self, "shape", shape)
        if not isinstance(inner, Scaled) or not _no_larger(inner.scale, self.scale):
            return
        shift = self.shift
        if inner.shift is not None:
            zero = np.zeros(()) if shift is None else shift
            if not _no_larger(inner.shift, self.scale, zero):
                return
            shift = inner.shift.astype(np.longdouble) * self.scale + zero
        object.__setattr__(self, "scale", inner.scale.astype(np.longdouble) * self.scale)
        object.__setattr__(self, "shift", shift)
        object.__setattr__(self, "base", inner.base)

    def wide(self) -> Wide:
        base = self.base.wide()
        out = base if base.shape == self.shape else None  # ours alone, and possibly a large layer
        made = self._made(base, self.scale, self.shift, out)
        return made if made.shape == self.shape else np.broadcast_to(made, self.shape).copy()

    def load(self) -> npt.NDArray[Any]:
        """Evaluate the formula and round it once; of a weight in place, some rows at a time.

        To get memory for all of it in wide arithmetic takes longer than the arithmetic.
        """
        base = self.base
        if not isinstance(base, Leaf) or base.shape != self.shape or not self.shape:
            return super().load()
        values, dtype = base.load(), wide_dtype(self.data_type)
        scale, shift = np.broadcast_to(widened(self.scale, dtype), self.shape), None
        if self.shift is not None:
            shift = np.broadcast_to(widened(self.shift, dtype), self.shape)
        step = max(1, AT_ONCE // max(math.prod(self.shape[1:]), 1))
        wide = np.empty((min(step, self.shape[0]), *self.shape[1:]), dtype)
        for start in range(0, self.shape[0], step):
            rows = slice(start, start + step)
            part = values[rows]
            added = None if shift is None else shift[rows]
            made = self._made(part, scale[rows], added, wide[: len(part)])
            part[...] = round_to(made, self.data_type)
        return values

    def _made(
        self, base: npt.NDArray[Any], scale: Wide, shift: Wide | None, out: Wide | None
    ) -> Wide:
        """Evaluate the formula on values of the base."""
        dtype = wide_dtype(self.data_type)
        with np.errstate(over="ignore", invalid="ignore"):
            made: Wide = np.multiply(base, widened(scale, dtype), out=out, dtype=dtype)
            return made if shift is None else np.add(made, widened(shift, dtype), out=out)

    @functools.cached_property
    def _factors(self) -> tuple[float, float]:
        return extremes(self.scale)

    def bound(self) -> float:
        shift = 0.0 if self.shift is None else magnitude(self.shift)
        return self.base.bound() * self._factors[1] + shift

    def least(self) -> float:
        return self.base.least() * self._factors[0] if self.shift is None else 0.0

    def operands(self) -> tuple[Expression, ...]:
        return (self.base,)


@dataclass(frozen=True, eq=False)
class Summed(Expression):
    """``base + gain * sum(weight * factor, axes)``: what a shift adds through a weight.

    Many shifts through one weight are one: where the base is such a sum already, over the same
    weight, the factors are added.

    Parameters
    ----------
    base : Expression or None
        The bias there was.
    factor : ndarray
        Broadcastable with ``weight`` (with ``view``, where that is given).
    axes : tuple of int
        The axes of ``weight`` (of ``view``) that are summed.
    result : tuple of int
        Shape of the sum before it is added to the base.
    gain : float
        A constant factor of the sum, such as Gemm's alpha.
    view : tuple of int, optional
        Another shape of the same elements, under which ``weight`` is multiplied and summed.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """

    base: Expression | None
    weight: Expression
    factor: Wide
    axes: tuple[int, ...]
    result: tuple[int, ...]
    gain: float = 1.0
    view: tuple[int, ...] | None = None
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        weight, base = self.weight, self.base
        terms = weight.shape if self.view is None else self.view
        if broadcast(self.factor.shape, terms) != terms:
            raise ValueError(
                f"a factor of shape {self.factor.shape} does not fit a weight of shape {terms}"
            )
        shape = broadcast(self.result, () if base is None else base.shape)
        object.__setattr__(self, "shape", shape)
        if (
            isinstance(weight, Scaled)
            and weight.shift is None
            and self.view is None
            and weight.base.shape == weight.shape
            and _no_larger(weight.scale, self.factor)
        ):
            factor = weight.scale.astype(np.longdouble) * self.factor
            object.__setattr__(self, "factor", factor)
            object.__setattr__(self, "weight", weight.base)
        if (
            isinstance(base, Summed)
            and base.weight is self.weight
            and (base.axes, base.result, base.view) == (self.axes, self.result, self.view)
            and base.gain == self.gain
            and _no_larger(base.factor, self.factor)
        ):
            object.__setattr__(self, "factor", base.factor.astype(np.longdouble) + self.factor)
            object.__setattr__(self, "base", base.base)

    @property
    def data_type(self) -> int:  # type: ignore[override]
        """Float type of the base, else of the weight."""
        return self.weight.data_type if self.base is None else self.base.data_type

    def wide(self) -> Wide:
        weight = self.weight.wide()
        if self.view is not None:
            weight = weight.reshape(self.view)
        total = _contracted(weight, self.factor, self.axes).reshape(self.result) * self.gain
        if self.base is not None:
            total = self.base.wide() + total
        return total.astype(wide_dtype(self.data_type))

    def bound(self) -> float:
        shape = self.weight.shape if self.view is None else self.view
        terms = math.prod(shape[axis] for axis in self.axes)
        total = self.weight.bound() * magnitude(self.factor) * terms * abs(self.gain)
        return total + (0.0 if self.base is None else self.base.bound())

    def operands(self) -> tuple[Expression, ...]:
        return (self.weight,) if self.base is None else (self.base, self.weight)


def _no_larger(*arrays: Wide) -> bool:
    """Whether arrays that are broadcast together take no more memory than the largest of them."""
    shape = broadcast(*(array.shape for array in arrays))
    return math.prod(shape) <= max(array.size for array in arrays)


ROWS_AT_ONCE = 1 << 20
"""Elements of a weight that are widened to long double at a time."""


def _contracted(weight: Wide, factor: Wide, axes: tuple[int, ...]) -> Wide:
    """Return ``sum(weight * factor, axes)``, computed in long double.

    Terms of both signs cancel, and what is left must still be right to the last bit of a float32.
    """
    last = tuple(range(-len(axes), 0))
    factor = np.moveaxis(np.broadcast_to(factor, weight.shape), axes, last)
    weight = np.moveaxis(weight, axes, last)
    kept = weight.ndim - len(axes)
    rows = 1 if kept == 0 or weight.size == 0 else weight.shape[0]
    step = max(1, ROWS_AT_ONCE * rows // max(weight.size, 1))
    with np.errstate(over="ignore", invalid="ignore"):
        if kept == 0:
            return np.asarray((weight.astype(np.longdouble) * factor).sum())
        parts = [
            (weight[i : i + step].astype(np.longdouble) * factor[i : i + step]).sum(axis=last)
            for i in range(0, weight.shape[0], step)
        ]
    return np.concatenate(parts) if parts else np.zeros(weight.shape[:kept], np.longdouble)


@dataclass(frozen=True, eq=False)
class Overlaid(Expression):
    """``base`` with ``gain * other`` added to the part of it that begins at ``corner``.

    Parameters
    ----------
    other : Expression
        Of the same float type and rank; fits into ``base``.
    corner : tuple of int
        Index in ``base`` of the first element of ``other``.
    """

    base: Expression
    other: Expression
    corner: tuple[int, ...]
    gain: float = 1.0
    data_type: int = field(init=False)
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_type", self.base.data_type)
        object.__setattr__(self, "shape", self.base.shape)

    def _layers(self) -> tuple[Expression, list[Overlaid]]:
        """Return what is at the bottom, and what is laid over it in order: they may be many."""
        found, base = [self], self.base
        while isinstance(base, Overlaid):
            found.append(base)
            base = base.base
        return base, found[::-1]

    def wide(self) -> Wide:
        bottom, layers = self._layers()
        base = bottom.wide()
        with np.errstate(over="ignore", invalid="ignore"):
            for layer in layers:
                spans = zip(layer.corner, layer.other.shape, strict=True)
                place = tuple(slice(start, start + size) for start, size in spans)
                base[place] += layer.gain * layer.other.wide()
        return base

    @functools.cached_property
    def _bound(self) -> float:
        return self.base.bound() + abs(self.gain) * self.other.bound()

    @functools.cached_property
    def _least(self) -> float:
        return min(self.base.least(), abs(self.gain) * self.other.least())

    def bound(self) -> float:
        return self._bound

    def least(self) -> float:
        return self._least

    def operands(self) -> tuple[Expression, ...]:
        bottom, layers = self._layers()
        return (bottom, *(layer.other for layer in layers))

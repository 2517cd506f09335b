"""Constants that are computed from other constants, in wide arithmetic and only when asked.

A fold replaces a constant by a formula over it, such as ``W * s``. The formula is kept as an
:class:`Expression`; several folds into one constant nest, and the whole is evaluated once, with one
rounding, when the model is written. So planning reads no weights (but for a look at their range),
and a model of any size is folded in the memory of one layer.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import Wide, largest, round_to, wide_dtype
from normswap.finite import flaw_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from normswap.finite import Flaw
    from normswap.model.tensors import TensorSource


class Expression:
    """A constant with a formula: a :class:`~normswap.model.tensors.TensorSource` of float type."""

    data_type: int
    shape: tuple[int, ...]

    def wide(self) -> Wide:
        """Evaluate the formula, not yet rounded: a fresh array of :attr:`shape`."""
        raise NotImplementedError

    def bound(self) -> float:
        """Return an upper bound of the magnitude of all values; NaN if any is not a number."""
        raise NotImplementedError

    def least(self) -> float:
        """Return a lower bound of the magnitude of the values that are not 0; 0 if none is known.

        Values that are small because others have cancelled out don't count.
        """
        return 0.0

    def operands(self) -> tuple[Expression, ...]:
        """Return the constants of the formula that are formulas, or constants of the model."""
        return ()

    def leaves(self) -> Iterator[Leaf]:
        """Yield the constants of the model that the formula is over."""
        for operand in self.operands():
            yield from operand.leaves()

    def load(self) -> npt.NDArray[Any]:
        """Evaluate the formula and round it once to :attr:`data_type`."""
        return np.ascontiguousarray(round_to(self.wide(), self.data_type)).reshape(self.shape)

    def problem(self) -> str | None:
        """Say why the stored values would not be what the formula says, or None.

        Returns
        -------
        str or None
            ``"non-finite"`` where an operand is not finite, ``"overflow"`` where a value is beyond
            the range of :attr:`data_type`, ``"layout"`` where the values have no place.
        """
        if self.bound() <= largest(self.data_type):
            return None  # the bound is loose; beyond it the values decide
        if self.flaw() is not None:
            return "non-finite"
        return None if np.isfinite(self.load().astype(np.float64)).all() else "overflow"

    def flaw(self) -> Flaw | None:
        """Return what is not finite of the constants that the formula is over."""
        found = (flaw_of(leaf.name, leaf.source.load()) for leaf in self.leaves())
        return next((flaw for flaw in found if flaw is not None), None)


broadcast = functools.lru_cache(np.broadcast_shapes)
"""The shape to which shapes broadcast: a network has few, and NumPy makes arrays to tell."""


def widened(array: Wide, like: np.dtype[Any]) -> Wide:
    """Return a small factor in the arithmetic of the constant that it is combined with."""
    return array.astype(like, copy=False)


def extremes(array: npt.NDArray[Any]) -> tuple[float, float]:
    """Return ``min(abs(array))`` over what is not 0, and ``max(abs(array))``, in one pass.

    Returns
    -------
    least : float
        Infinite where there is nothing but 0.
    most : float
        0 of an empty array; NaN if any is not a number.
    """
    least, most = math.inf, 0.0
    flat = array.reshape(-1)
    for start in range(0, flat.size, AT_ONCE):
        part = flat[start : start + AT_ONCE]
        if part.dtype.itemsize == 2:  # over which NumPy is slow
            part = part.astype(np.float32)
        magnitudes = np.abs(part)
        high = float(magnitudes[magnitudes.argmax()])  # which is faster than max()
        if math.isnan(high):
            return least, high
        if magnitudes[magnitudes.argmin()] == 0:
            magnitudes[magnitudes == 0] = np.inf
        low = float(magnitudes[magnitudes.argmin()])
        least, most = min(least, low), max(most, high)
    return least, most


def magnitude(array: npt.NDArray[Any]) -> float:
    """Return ``max(abs(array))``; 0 of an empty array, NaN if any is not a number."""
    return extremes(array)[1]


AT_ONCE = 1 << 16
"""Elements that are looked at at a time, few enough for a cache."""


LARGEST_KEPT = 1 << 12
"""Elements of a constant that is read once, as parameters per channel are, and not when needed."""


@dataclass(frozen=True, eq=False)
class Leaf(Expression):
    """A constant of the model as it is.

    Parameters
    ----------
    source : TensorSource
        Where its values come from; of a float type.
    name : str
        What it is called.
    """

    source: TensorSource
    name: str
    data_type: int = field(init=False)
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_type", self.source.data_type)
        object.__setattr__(self, "shape", tuple(self.source.shape))

    @functools.cached_property
    def _small(self) -> npt.NDArray[Any] | None:
        return self.source.load() if math.prod(self.shape) <= LARGEST_KEPT else None

    def load(self) -> npt.NDArray[Any]:
        """Return the values as they are stored."""
        return self.source.load() if self._small is None else self._small.copy()

    def wide(self) -> Wide:
        kept = self._small
        values = self.source.load() if kept is None else kept
        return values.astype(wide_dtype(self.data_type), copy=kept is not None)

    @functools.cached_property
    def _extremes(self) -> tuple[float, float]:
        return extremes(self.source.load() if self._small is None else self._small)

    def bound(self) -> float:
        return self._extremes[1]

    def least(self) -> float:
        return self._extremes[0]

    def leaves(self) -> Iterator[Leaf]:
        yield self


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

    def least(self) -> float:
        return extremes(self.values)[0]


@dataclass(frozen=True, eq=False)
class Stored(Expression):
    """A formula's values as they will be read from the file: rounded.

    Parameters
    ----------
    formula : Expression
    """

    formula: Expression

    @property
    def data_type(self) -> int:  # type: ignore[override]
        """Float type of the formula."""
        return self.formula.data_type

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of the formula."""
        return self.formula.shape

    def wide(self) -> Wide:
        return self.formula.load().astype(wide_dtype(self.data_type))

    def bound(self) -> float:
        return magnitude(self.wide())

    def least(self) -> float:
        return extremes(self.wide())[0]

    def operands(self) -> tuple[Expression, ...]:
        return (self.formula,)


@dataclass(frozen=True, eq=False)
class Scaled(Expression):
    """``base * scale + shift``, elementwise, NumPy broadcasting.

    Scaled twice is scaled once: where that takes no more memory, the factors are multiplied and the
    base of the base is kept, so that a constant that many folds reach stays one formula.

    Parameters
    ----------
    base : Expression
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
    weight : Expression
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
    base : Expression
    other : Expression
        Of the same float type and rank; fits into ``base``.
    corner : tuple of int
        Index in ``base`` of the first element of ``other``.
    gain : float
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


@dataclass(frozen=True, eq=False)
class Diagonal(Expression):
    """The weight ``(M, M/group, *1)`` of a Conv that scales every channel by its own factor.

    Parameters
    ----------
    factors : (M,) ndarray
    group : int
    rank : int
        Rank of the weight.
    data_type : int
    """

    factors: Wide
    group: int
    rank: int
    data_type: int

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of the weight."""
        channels = len(self.factors)
        return (channels, channels // self.group, *(1,) * (self.rank - 2))

    def wide(self) -> Wide:
        weight = np.zeros(self.shape, wide_dtype(self.data_type))
        channel = np.arange(len(self.factors))
        weight[channel, channel % self.shape[1]] = self.factors.reshape(-1, *weight.shape[2:])
        return weight

    def bound(self) -> float:
        return magnitude(self.factors)

    def least(self) -> float:
        return extremes(self.factors)[0]


@dataclass(frozen=True, eq=False)
class Reshaped(Expression):
    """The same values under another shape.

    Parameters
    ----------
    base : Expression
    new_shape : tuple of int
    """

    base: Expression
    new_shape: tuple[int, ...]

    @property
    def data_type(self) -> int:  # type: ignore[override]
        """Float type of the base."""
        return self.base.data_type

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The new shape."""
        return self.new_shape

    def wide(self) -> Wide:
        return self.base.wide().reshape(self.new_shape)

    def problem(self) -> str | None:
        if math.prod(self.new_shape) != math.prod(self.base.shape):
            return "layout"
        return super().problem()

    def bound(self) -> float:
        return self.base.bound()

    def least(self) -> float:
        return self.base.least()

    def operands(self) -> tuple[Expression, ...]:
        return (self.base,)

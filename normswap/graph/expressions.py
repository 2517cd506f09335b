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
from normswap.graph.extremes import extremes, magnitude

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
        return magnitude(self.wide())

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
    """A formula's values as they will be read from the file: rounded."""

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

    def least(self) -> float:
        return extremes(self.wide())[0]

    def operands(self) -> tuple[Expression, ...]:
        return (self.formula,)


@dataclass(frozen=True, eq=False)
class Diagonal(Expression):
    """The weight ``(M, M/group, *1)`` of a Conv that scales every channel by its own factor.

    Parameters
    ----------
    factors : (M,) ndarray
    rank : int
        Rank of the weight.
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
    """The same values under another shape."""

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

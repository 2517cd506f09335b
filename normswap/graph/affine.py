"""The affine map that travels: ``y = scale * x + shift``, constant, elementwise.

Source: in inference, BatchNormalization (opset 7 and later) is such a map of every channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from normswap.dtypes import Wide


def align(array: Wide, rank: int) -> Wide:
    """Give an array trailing axes of length 1 up to ``rank``."""
    return array.reshape(array.shape + (1,) * (rank - array.ndim))


def _canonical(array: Wide) -> Wide:
    """Shorten axes along which nothing varies, drop trailing ones; long double and read-only."""
    array = np.asarray(array, dtype=np.longdouble)
    for axis, size in enumerate(array.shape):
        if size > 1:
            first = array.take([0], axis)
            if array.size and array.item(-1) != first.item(-1):
                continue  # it varies, and the others need not be looked at
            if (array == first).all():
                array = first
    kept = array.ndim
    while kept and array.shape[kept - 1] == 1:
        kept -= 1
    array = array.reshape(array.shape[:kept])
    array.flags.writeable = False
    return array


def _along(array: Wide, length: int) -> Wide:
    """Return an array that varies along one axis at most as a vector."""
    if array.size == length:
        return array.reshape(-1)
    if array.size != 1:
        raise MisfitError(
            f"a scale and shift of {array.size} channels do not fit {length} channels"
        )
    return np.broadcast_to(array.reshape(-1), (length,))


class MisfitError(ValueError):
    """An affine has not the shape of the tensor that it is over: the model is malformed."""


@dataclass(frozen=True, eq=False)
class Affine:
    """``y = scale * x + shift`` over a tensor, constant along every axis where a length is 1.

    Scale and shift are laid out over the tensor's axes *from the left*: axis ``i`` of the arrays is
    axis ``i`` of the tensor, and axes that are not there are of length 1. ``(1, C)`` is a value per
    channel of a tensor of any rank from 2 on, as BatchNormalization has it, so the rank needs not
    be known; ``(1, 1, C)`` a value per feature of a (N, L, C) tensor; ``()`` one value.

    Parameters
    ----------
    scale, shift : array_like
        Kept as read-only long double, axes along which nothing varies shortened to 1, and trailing
        axes of length 1 dropped; so equal maps have equal arrays.
    """

    scale: Wide
    shift: Wide

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", _canonical(self.scale))
        object.__setattr__(self, "shift", _canonical(self.shift))

    @cached_property
    def key(self) -> tuple[object, ...]:
        """Equal for equal maps; most are never compared."""
        # + 0.0 makes -0.0 and 0.0 one; float64 is enough to tell affines apart.
        with np.errstate(over="ignore"):
            return tuple(
                (a.shape, (a + 0.0).astype(np.float64).tobytes()) for a in (self.scale, self.shift)
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @cached_property
    def has_scale(self) -> bool:
        """Whether the scale is anything but 1."""
        return bool((self.scale != 1).any())

    @cached_property
    def has_shift(self) -> bool:
        """Whether the shift is anything but 0."""
        return bool(np.count_nonzero(self.shift))

    @property
    def is_identity(self) -> bool:
        """Whether ``y == x``."""
        return not self.has_scale and not self.has_shift

    @property
    def is_finite(self) -> bool:
        """Whether every scale and shift is a finite number."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())

    @property
    def is_nonnegative(self) -> bool:
        """Whether every scale is >= 0, so that the map keeps the order of values."""
        return bool((self.scale >= 0).all())

    @property
    def ndim(self) -> int:
        """One more than the last axis along which the map may vary."""
        return max(self.scale.ndim, self.shift.ndim)

    def varies_along(self, axis: int) -> bool:
        """Whether the map differs along an axis."""
        return any(axis < a.ndim and a.shape[axis] != 1 for a in (self.scale, self.shift))

    def varies_only_along(self, *axes: int) -> bool:
        """Whether the map is constant along all other axes."""
        return not any(self.varies_along(axis) for axis in range(self.ndim) if axis not in axes)

    def scale_only(self) -> Affine:
        """Return the map without its shift."""
        return Affine(self.scale, np.zeros(()))

    def shift_only(self) -> Affine:
        """Return the map without its scale."""
        return Affine(np.ones(()), self.shift)

    def then(self, outer: Affine) -> Affine:
        """Return ``x -> outer(self(x))``."""
        rank = max(self.ndim, outer.ndim)
        s, t = align(self.scale, rank), align(self.shift, rank)
        outer_s, outer_t = align(outer.scale, rank), align(outer.shift, rank)
        with np.errstate(over="ignore", invalid="ignore"):  # see is_finite
            return Affine(outer_s * s, outer_s * t + outer_t)

    def apply(self, value: float) -> Wide:
        """Return ``scale * value + shift``, everywhere."""
        scale, shift = self.at(self.ndim)
        with np.errstate(invalid="ignore"):  # 0 * inf is no number, and none is wanted
            return scale * value + shift

    def at(self, rank: int) -> tuple[Wide, Wide]:
        """Return scale and shift with ``rank`` axes.

        Raises
        ------
        MisfitError
            If the map varies along an axis beyond ``rank``.
        """
        if self.ndim > rank:
            raise MisfitError(
                f"a scale and shift over {self.ndim} axes do not fit a tensor of rank {rank}"
            )
        return align(self.scale, rank), align(self.shift, rank)

    def vectors(self, length: int) -> tuple[Wide, Wide]:
        """Return scale and shift as two ``(length,)`` vectors.

        The map must vary along one axis at most (:meth:`varies_only_along`).

        Raises
        ------
        MisfitError
            If it is over another number of channels.
        """
        return _along(self.scale, length), _along(self.shift, length)

    def relaid(self, rank: int, layout: Callable[[Wide], Wide]) -> Affine:
        """Return the map over another layout of the tensor's elements.

        Parameters
        ----------
        rank : int
            Rank of the tensor that the map is over.
        layout : callable
            Maps an array of ``rank`` axes (of length 1 where constant) to the new layout.
        """
        s, t = self.at(rank)
        return Affine(layout(s), layout(t))

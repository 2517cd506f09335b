"""The weights of a module among the constants of a file: which are the same, which were changed.

An exporter keeps a weight, transposes it, rounds it to a narrower type, or folds something into it.
None of these changes a few elements and leaves the others bit for bit. What does is an edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from normswap.proof.numbering import Side

_HALF = 0.5  # part of the elements, but for zeros, that are the same in what was edited
_ALIKE = 1e-5  # part of an element that rounding a fold may take it off by
_SMALLEST = 8  # elements of a weight that is recognized by its values
_HEAD = 64  # elements of it that are looked at first


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of the module that the file has in one form or another.

    Attributes
    ----------
    name, constant : str
        In the module and in the file.
    shape : tuple of int
        In the module.
    index : tuple of int
        Of the element that is furthest off, in the file.
    own, found : float
        That element in the module, folded as the others are, and in the file.
    kind : {"same", "changed", "other", "folded", "shape"}
        The same to its bits; changed in some elements, and folded in the others, if at all; other
        values; others by a factor a channel, as by a fold; or another shape.
    """

    name: str
    constant: str
    shape: tuple[int, ...]
    kind: str
    differing: int = 0
    elements: int = 0
    index: tuple[int, ...] = ()
    own: float = 0.0
    found: float = 0.0

    def __str__(self) -> str:
        """Tell a person what is so."""
        where = f", which the file has as {self.constant!r}," * (self.constant != self.name)
        if self.kind == "shape":
            return (
                f"weight {self.name!r} has shape {list(self.shape)}{where} in the module, and "
                "another shape in the file"
            )
        at = ", ".join(map(str, self.index))
        return (
            f"weight {self.name!r}{where} is not the module's: {self.differing} of "
            f"{self.elements} elements differ, most at [{at}], where it is {self.own:.7g} "
            f"in the module and {self.found:.7g} in the file"
        )


def compare_weights(weights: Iterable[tuple[str, np.ndarray]], side: Side) -> Iterator[Weight]:
    """Yield what became of those weights that the file has, by name or by values.

    Parameters
    ----------
    weights : iterable of (str, numpy.ndarray)
        Of the module.
    side : Side
        The file.
    """
    named = {side.flat.names[number]: number for number in side.flat.tensors}
    left = []
    taken = set()
    for name, own in weights:
        number = named.get(name)
        found = None if number is None else _loaded(side, number)
        if number is None or found is None:
            left.append((name, own))
            continue
        taken.add(number)
        for form in (own, own.T) if own.ndim == 2 else (own,):
            if form.shape == found.shape:
                weight = _compared(name, name, form, found)
                if weight.kind in {"same", "changed"}:
                    break
        else:
            weight = _compared(name, name, own, found)
        yield weight
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number in side.flat.tensors.keys() - taken:
        by_shape.setdefault(side.constants.shape(number), []).append(number)
    for name, own in left:
        found_weight = _by_values(name, own, side, by_shape)
        if found_weight is not None:
            yield found_weight


def _by_values(
    name: str, own: np.ndarray, side: Side, by_shape: dict[tuple[int, ...], list[int]]
) -> Weight | None:
    """Find a weight under another name: most of its elements are there, or most times a factor."""
    if own.size < _SMALLEST or not own.any():
        return None
    for form in (own, own.T) if own.ndim == 2 else (own,):
        for number in by_shape.get(form.shape, ()):
            found = _loaded(side, number)
            if found is None or not _may_be(form, found):
                continue
            weight = _compared(name, side.flat.names[number], form, found)
            if weight.kind in {"same", "changed"} or (weight.kind == "folded" and form.ndim > 1):
                by_shape[form.shape].remove(number)
                return weight
    return None


def _may_be(own: np.ndarray, found: np.ndarray) -> bool:
    """Whether a few elements look as if one were the other, or it times a factor."""
    heads = [(own.reshape(-1), found.reshape(-1))]
    if own.ndim > 1:
        heads = [(own[0].reshape(-1), found[0].reshape(-1)), (own[:, 0], found[:, 0])]
    for one, other in heads:
        a, b = (each.reshape(-1)[:_HEAD].astype(np.float64) for each in (one, other))
        if own.ndim == 1:
            return bool(np.count_nonzero(a.astype(found.dtype) == b) > _HALF * a.size)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = b[a != 0] / a[a != 0]
        if not ratio.size:
            return True
        middle = np.median(ratio)
        if np.count_nonzero(np.abs(ratio - middle) <= _ALIKE * abs(middle)) > _HALF * ratio.size:
            return True
    return False


def _compared(name: str, constant: str, own: np.ndarray, found: np.ndarray) -> Weight:
    if own.shape != found.shape:
        return Weight(name, constant, own.shape, "shape")
    rounded = own.astype(found.dtype) if found.dtype.itemsize < own.dtype.itemsize else own
    a, b = rounded.astype(np.float64), found.astype(np.float64)
    apart = (a != b) & ~(np.isnan(a) & np.isnan(b))
    if not apart.any():
        return Weight(name, constant, own.shape, "same", elements=own.size)
    kind = "changed" if _is_few(apart, a, b) else "other"
    if kind == "other":
        for scaled in _scaled(a, b):
            off = np.abs(b - scaled) > _ALIKE * np.maximum(np.abs(b), np.abs(scaled))
            if not off.any():
                return Weight(name, constant, own.shape, "folded", elements=own.size)
            if _is_few(off, scaled, b):
                kind, a, apart = "changed", scaled, off
                break
    error = np.where(apart, np.abs(b - a), -1.0)
    error[np.isnan(error)] = np.inf
    index = np.unravel_index(int(error.argmax()), own.shape)
    return Weight(
        name,
        constant,
        own.shape,
        kind,
        int(np.count_nonzero(apart)),
        own.size,
        tuple(int(i) for i in index),
        float(a[index]),
        float(b[index]),
    )


def _is_few(apart: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether only some elements are apart, of those that are not zero in both."""
    telling = np.count_nonzero((a != 0) | (b != 0))
    return bool(np.count_nonzero(apart) < _HALF * telling)


def _scaled(a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a weight times what most of each place along an axis is multiplied by."""
    if a.ndim < 2:
        yield b  # a vector always is another one times factors
        return
    for axis in range(2):
        one = np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1)
        other = np.moveaxis(b, axis, 0).reshape(a.shape[axis], -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(one == 0, np.nan, other / one)
        known = ~np.isnan(ratio).all(axis=1)
        factor = np.zeros(len(ratio))
        factor[known] = np.nanmedian(ratio[known], axis=1)
        yield a * factor.reshape([-1 if i == axis else 1 for i in range(a.ndim)])


def _loaded(side: Side, number: int) -> np.ndarray | None:
    """Return a constant that may be a weight."""
    value = side.constants.load(number)
    if not isinstance(value, np.ndarray) or value.dtype.kind in "biuSUOc":
        return None
    return value

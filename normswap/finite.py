"""Values that are not finite, or are not once they are stored: which, where and how many.

One NaN or infinity in data, statistics or weights makes a whole network of NaN. Whoever meets one
says the same about it: what it is in, the index of the first, and the count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import is_floating

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Flaw:
    """Elements of an array that are not finite, or that a type can't hold.

    Attributes
    ----------
    name : str
        What the array is called.
    index : tuple of int
        Of the first such element; empty for a scalar.
    value : float
        What it is.
    count : int
        How many there are.
    limit : str
        Name of the type that can't hold them; empty where they are not finite themselves.
    """

    name: str
    index: tuple[int, ...]
    value: float
    count: int
    limit: str = ""

    def __str__(self) -> str:
        """Return it as a clause: what is wrong with which array, and where."""
        one = self.count == 1
        if self.limit:
            what = f"beyond the range of {self.limit}"
            what = f"that is {what}" if one else f"that are {what}"
        else:
            what = "that is not finite" if one else "that are not finite"
        where = ""
        if self.index:
            index = self.index[0] if len(self.index) == 1 else self.index
            where = f"at index {index} " if one else f", at index {index},"
        start = f"{where}it" if one else f"the first{where}"
        values = "value" if one else "values"
        return f"{self.name} has {self.count} {values} {what}: {start} is {_word(self.value)}"


def _word(value: float) -> str:
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    return f"{value:g}"


def flaw_of(name: str, array: npt.NDArray[Any], stored: np.dtype[Any] | None = None) -> Flaw | None:
    """Find the first element of an array that is not finite.

    Parameters
    ----------
    name : str
        What to call the array.
    array : (...,) ndarray
        Of any type; only floats can be anything but finite.
    stored : dtype, optional
        A type in which the array is to be stored, a float, or an integer for integers. Where all is
        finite, the first element beyond its range is found.

    Returns
    -------
    Flaw or None
        None where every element is finite, and stays so.
    """
    if is_floating(array.dtype):
        finite = np.isfinite(array)
        if not finite.all():
            return _first(name, array, ~finite)
    if stored is None or stored == array.dtype:
        return None
    with np.errstate(over="ignore", under="ignore"):
        kept = array.astype(stored)
    lost = ~np.isfinite(kept) if is_floating(stored) else kept.astype(array.dtype) != array
    return _first(name, array, lost, stored.name) if lost.any() else None


def _first(name: str, array: npt.NDArray[Any], bad: npt.NDArray[np.bool_], limit: str = "") -> Flaw:
    index = np.unravel_index(int(np.argmax(bad)), array.shape)
    return Flaw(
        name, tuple(map(int, index)), float(array[index]), int(np.count_nonzero(bad)), limit
    )

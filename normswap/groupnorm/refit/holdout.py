"""Which samples are fitted to, and which are held out, by which every step is judged.

What helps on some pictures can hurt on others. So samples are held out by the data's own units,
where these are named: all crops of a picture, all frames of a film, all that is of one patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.errors import DataError, UsageError
from normswap.groupnorm.words import SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from normswap.inputs.data import Dataset
    from normswap.runtime.arrays import Feeds


@dataclass(frozen=True, slots=True)
class Part:
    """The samples of a data set on one side: batches that can be gone through again and again.

    Attributes
    ----------
    samples : int
        How many there are.
    fixed : bool
        Whether a model takes batches of one size only, which then stay whole.
    units : tuple of (N,) ndarray of int
        Of every batch with samples of this side: the number of the unit that each belongs to.
    """

    samples: int
    fixed: bool
    units: tuple[npt.NDArray[np.int_], ...]
    _data: Dataset
    _held: frozenset[int]
    _wanted: bool

    def __iter__(self) -> Iterator[Feeds]:
        """Go through the batches, each with its samples of this side."""
        for feeds, _ in self.cases():
            yield feeds

    def cases(self) -> Iterator[tuple[Feeds, tuple[str, ...]]]:
        """Go through the batches, each with the names of the inputs that have samples."""
        number = 0
        for case in self._data.cases():
            count = case.samples
            places = [k for k in range(count) if (number + k in self._held) is self._wanted]
            number += count
            if len(places) == count:
                yield case.feeds, case.sampled
            elif places:
                yield (
                    {
                        name: value[places] if name in case.sampled else value
                        for name, value in case.feeds.items()
                    },
                    case.sampled,
                )

    def smallest(self) -> tuple[Feeds, int]:
        """Return the first sample, or batch if these stay whole, and how many of it there are."""
        feeds, sampled = next(self.cases())
        if self.fixed or not sampled:
            return feeds, -(-self.samples // max((len(feeds[n]) for n in sampled), default=1))
        return feeds | {name: feeds[name][:1] for name in sampled}, self.samples

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return of one value for each sample of the whole data those of this side."""
        here = [number for number in range(len(values)) if (number in self._held) is self._wanted]
        return values[here]


def hold_out(data: Dataset, *, share: float = SHARE, fixed: bool = False) -> tuple[Part, Part]:
    """Divide a data set.

    Parameters
    ----------
    data : Dataset
        With the units that its samples belong to, or each is one of its own.
    share : float
        Of the units that is held out, between 0 and 1: at least one, and not all.
    fixed : bool
        Whether a model takes batches of one size only, which then stay whole.

    Returns
    -------
    Part, Part
        What is fitted to, and what is held out.

    Raises
    ------
    UsageError
        That is no share.
    DataError
        There are fewer than two units, or a batch that has to stay whole is of several.
    """
    if not 0 < share < 1:
        raise UsageError(f"The share to hold out is {share:g}, and must be above 0 and below 1.")
    units: list[object] = []
    sizes = []
    for batch, case in enumerate(data.cases()):
        if fixed and len(set(case.units)) > 1:
            raise DataError(
                f"The model takes batches of {case.samples} samples only, and batches of "
                f"{data.name} mix several units: no unit could be held out as a whole.",
                tip=f"Order the data by unit, with a multiple of {case.samples} samples in each.",
            )
        own = range(len(units), len(units) + case.samples)
        units += case.units or ([batch] * case.samples if fixed else own)
        sizes.append(case.samples)
    names = list(dict.fromkeys(units))
    if len(names) < 2:
        what = "one batch, of the size that the model takes" if fixed else "one unit"
        raise DataError(
            f"{data.name} has only {what}: nothing can be held out to judge a fit by.",
            tip="Give more data.",
        )
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    # By chance, as data is often in the order of its labels; by the same chance in every run.
    chosen = np.random.default_rng(0).permutation(len(names))[:count]
    away = {names[index] for index in chosen}
    held = frozenset(number for number, unit in enumerate(units) if unit in away)
    fit, out = (_numbered(units, sizes, held, wanted=wanted) for wanted in (False, True))
    return (
        Part(len(units) - len(held), fixed, fit, data, held, False),
        Part(len(held), fixed, out, data, held, True),
    )


def _numbered(
    units: list[object], sizes: list[int], held: frozenset[int], *, wanted: bool
) -> tuple[npt.NDArray[np.int_], ...]:
    """Return the numbers of the units on one side, batch by batch."""
    numbers: dict[object, int] = {}
    found, start = [], 0
    for size in sizes:
        own = [units[k] for k in range(start, start + size) if (k in held) is wanted]
        start += size
        if own:
            found.append(np.array([numbers.setdefault(unit, len(numbers)) for unit in own]))
    return tuple(found)

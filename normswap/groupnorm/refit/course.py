"""Go through a network level by level with all batches, each pass from where the last one ended."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from normswap.groupnorm.refit.networks import TappedNetwork
    from normswap.runtime.session import Session

    Tensors = dict[str, npt.NDArray[Any]]
    Parameters = Mapping[str, npt.NDArray[Any]]

ROOM = 1 << 29
"""Bytes of tensors that are kept for the next pass; a batch for which there is none starts over."""


class Course:
    """A network and data, at some level.

    Parameters
    ----------
    session : Session
    side : TappedNetwork
        Of the same network.
    data : iterable of feeds
        Gone through once for each level, as far as there is no room for what is kept.
    """

    def __init__(
        self, session: Session, side: TappedNetwork, data: Iterable[Mapping[str, Any]]
    ) -> None:
        self._session = session
        self._side = side
        self._data = data
        self._kept: dict[int, Tensors] = {}  # by the number of the batch
        self._room = ROOM
        self._batches = 0

    def advance(self, level: int, names: Sequence[str] = ()) -> Iterator[Tensors]:
        """Go on to a level, and yield tensors of every batch.

        Parameters
        ----------
        level : int
            From 1 on. What is fitted on levels below it is as it will be.
        names : sequence of str
        """
        next_ = self._side.frontiers[level] if self._side.frontiers else {}
        for index, feeds in self._again():
            values = self._values(feeds, {*names, *next_})
            if self._side.frontiers is not None:
                kept = self._kept.pop(index, {})
                self._room += sum(value.nbytes for value in kept.values())
                keep = {name: values[name] for name in next_}
                size = sum(value.nbytes for value in keep.values())
                if size <= self._room:
                    self._kept[index] = keep
                    self._room -= size
            yield values

    def values(self, names: Sequence[str], parameters: Parameters) -> Iterator[Tensors]:
        """Yield tensors of every batch from here on, with other parameters than those held."""
        for run in self.runs(names):
            yield run(parameters)

    def runs(self, names: Sequence[str]) -> Iterator[Callable[[Parameters], Tensors]]:
        """Yield of every batch a function of other parameters that returns tensors of it."""
        for _, feeds in self._again():
            yield partial(self._values, feeds, names)

    def _again(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield what every batch starts from."""
        if self._batches and len(self._kept) == self._batches:
            yield from list(self._kept.items())
            return
        index = -1
        for index, feeds in enumerate(self._data):
            yield index, self._kept.get(index, feeds)
        self._batches = index + 1

    def _values(
        self,
        feeds: Mapping[str, Any],
        names: Iterable[str],
        parameters: Parameters | None = None,
    ) -> Tensors:
        values = dict(feeds)
        missing = sorted({name for name in names if name not in feeds})
        if missing:
            values |= self._session.run({**feeds, **(parameters or {})}, missing)
        return values

"""Which tensors of the original one of the rewritten model may be.

By name, by what it makes of some inputs where that was seen, and by place.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from normswap.proof.flat import NONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from normswap.proof.flat import FlatNode
    from normswap.proof.numbering import Side
    from normswap.proof.simulate import Alike

_FAR = 5  # operators behind a known tensor that are looked at
_MOST = 4  # candidates

MORE = 8
"""Nodes that the region of a candidate by place may have more than that of the tensor."""


class Candidates:
    """The original's tensors, to be found by what is known of the rewritten model's.

    Parameters
    ----------
    a, b : Side
    homes : mapping of int to int
        A tensor of the original for each of its classes.
    alike : Alike, optional
        What both models make of some inputs.
    """

    def __init__(
        self, a: Side, b: Side, homes: Mapping[int, int], alike: Alike | None = None
    ) -> None:
        self._a, self._b = a, b
        self._alike = alike
        self._homes = homes
        self._names: dict[tuple[tuple[str, ...], str], int] = {}
        self._readers: dict[int, list[FlatNode]] = {}
        for node in a.flat.nodes:
            for number in node.outputs:
                if number != NONE:
                    self._names[node.path, a.flat.names[number]] = number
            for number in dict.fromkeys(node.inputs):
                self._readers.setdefault(number, []).append(node)
        for name, number in a.flat.named.items():
            self._names.setdefault(((), name), number)
        # A call has another name where its function was specialised.
        alone = Counter(name for _, name in self._names)
        self._alone = {name: n for (_, name), n in self._names.items() if alone[name] == 1}
        self._outputs = {number: name for name, number in reversed(b.flat.outputs)}

    def of(self, number: int) -> Iterator[tuple[int, bool]]:
        """Yield tensors of the original that one of the rewritten model may be, likely ones first.

        Each with whether it has its name, or its values.
        """
        flat = self._b.flat
        maker = flat.makers[number]
        if maker is None:
            return
        told: set[int] = set()
        names = [(maker.path, flat.names[number])]
        if number in self._outputs:
            names.insert(0, ((), self._outputs[number]))
        for found in (*map(self._names.get, names), self._alone.get(flat.names[number])):
            if found is not None and found not in told and self._fits(found, number):
                told.add(found)
                yield found, True
        for found in self._alike.of(number, _MOST) if self._alike is not None else ():
            if found not in told and self._fits(found, number):
                told.add(found)
                yield found, True
        behind = self._chain(next(iter(told))) if told else self._behind(maker)
        for found in behind:
            if found not in told and self._fits(found, number):
                told.add(found)
                yield found, False
                if len(told) >= _MOST:
                    return

    def _kind(self, number: int) -> int:
        """Return the class of a tensor, or of the one that it is but for a scale and a shift."""
        if number in self._b.readings:
            sources = reversed(self._b.stands_for)
            number = next(n for n in sources if self._b.stands_for[n] == number)
        return self._b.classes[number]

    def _fits(self, a: int, b: int) -> bool:
        if self._a.flat.makers[a] is None:
            return False
        if not self._b.may_be(self._a.flat.types[a], self._b.flat.types[b]):
            return False
        one, other = self._a.sizes[0].shapes.get(a), self._b.sizes[0].shapes.get(b)
        return one is None or other is None or one == other

    def _chain(self, number: int) -> Iterator[int]:
        """Yield what is made of a tensor, as long as one node reads it and nothing else."""
        for _ in range(_FAR):
            readers = self._readers.get(number, [])
            if len(readers) != 1 or len(readers[0].outputs) != 1:
                return
            number = readers[0].outputs[0]
            yield number

    def _behind(self, maker: FlatNode) -> Iterator[int]:
        """Yield what the original makes of what the maker reads."""
        for read in maker.inputs:
            home = NONE if read == NONE else self._homes.get(self._kind(read), NONE)
            if home == NONE or home in self._a.flat.tensors:
                continue
            pending = [home]
            for _ in range(_FAR):
                behind = []
                for known in pending:
                    readers = self._readers.get(known, [])
                    if len(readers) > _MOST and known != home:
                        continue
                    for node in readers[: 4 * _MOST]:
                        behind += [n for n in node.outputs if n != NONE]
                yield from behind
                pending = behind[:_MOST]

"""Which channels must move together, and which of them may change places.

Every channel of every tensor has a label, a number; channels that are one and the same thing in two
tensors (what a Relu reads and what it makes, say) are tied, and so have one label. A tensor may
have a label several times: ``Flatten`` makes each channel a run of pixels.

Two labels may be exchanged, everywhere at once, if no operator could tell: if each has as many
places as the other, in every tensor and in every part of one that an operator tells from the rest
(a *fence*: a group of a Conv, what a Slice cuts out). Then the first place of the one takes the
first of the other, and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from normswap.graph.reasons import Block

Ids = npt.NDArray[np.int64]


class Labels:
    """Labels, tied by a union-find whose representatives are the smallest of each set."""

    def __init__(self) -> None:
        self._parents = np.zeros(0, np.int64)
        self._count = 0
        self._fences: list[tuple[Ids, Ids]] = []
        self._fixed: list[tuple[Ids, Block]] = []
        self._once: list[tuple[Ids, Block]] = []

    def fresh(self, count: int) -> Ids:
        """Return so many new labels."""
        new = np.arange(self._count, self._count + count)
        self._count += count
        if self._count > len(self._parents):
            grown = np.arange(max(self._count, 2 * len(self._parents)))
            grown[: len(self._parents)] = self._parents
            self._parents = grown
        return new

    def roots(self, labels: Ids) -> Ids:
        """Return the representatives of labels, which are equal where these are tied."""
        found = self._parents[labels]
        while True:
            further = self._parents[found]
            if (further == found).all():
                self._parents[labels] = found
                return found
            found = further

    def tie(self, one: Ids, other: Ids) -> None:
        """Make labels of two arrays of one shape the same, element by element."""
        first, second = self.roots(one.reshape(-1)), self.roots(other.reshape(-1))
        for a, b in zip(first[first != second], second[first != second], strict=True):
            low, high = sorted((self._root(int(a)), self._root(int(b))))
            self._parents[high] = low

    def _root(self, label: int) -> int:
        while self._parents[label] != label:
            label = int(self._parents[label])
        return label

    def fence(self, labels: Ids, parts: Ids) -> None:
        """Keep labels in the parts that they are in.

        Parameters
        ----------
        labels : (C,) ndarray
        parts : (C,) ndarray
            In which part each place is.
        """
        self._fences.append((labels, parts))

    def fix(self, labels: Ids, block: Block) -> None:
        """Keep labels where they are."""
        self._fixed.append((labels.reshape(-1), block))

    def once(self, labels: Ids, block: Block) -> None:
        """Keep labels where they are, if one of them turns out to be there twice."""
        self._once.append((labels, block))

    def fixed(self) -> dict[int, Block]:
        """Return the labels that stay, each with the first reason."""
        twice = ((ids, block) for ids, block in self._once if _repeats(self.roots(ids)))
        found: dict[int, Block] = {}
        for ids, block in (*self._fixed, *twice):
            for root in self.roots(ids).tolist():
                found.setdefault(root, block)
        return found

    def classes(self) -> list[Ids]:
        """Return the sets of labels of which any two may be exchanged, of two or more."""
        fixed = self.fixed()
        seen: set[tuple[bytes, bytes]] = set()
        signatures: dict[int, list[tuple[object, ...]]] = {}
        for labels, parts in self._fences:
            roots = self.roots(labels)
            key = roots.tobytes(), parts.tobytes()
            if key in seen:
                continue
            seen.add(key)
            places: dict[int, list[int]] = {}
            for root, part in zip(roots.tolist(), parts.tolist(), strict=True):
                places.setdefault(root, []).append(part)
            for root, own in places.items():
                signatures.setdefault(root, []).append((len(seen), *sorted(own)))
        groups: dict[tuple[object, ...], list[int]] = {}
        for root in sorted(signatures.keys() - fixed.keys()):
            groups.setdefault(tuple(signatures[root]), []).append(root)
        return [np.array(group) for group in groups.values() if len(group) > 1]


def _repeats(roots: Ids) -> bool:
    return len(np.unique(roots)) < len(roots)

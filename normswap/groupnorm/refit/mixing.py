"""More samples to fit to than there are: the others are between two of them.

The original tells of any input what should come of it, so that a sample need not be a real one. In
between two pictures (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018) it is near
enough to real ones to tell more of the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.groupnorm.refit.holdout import Part
    from normswap.runtime.arrays import Feeds

LEAST, MOST = 0.2, 0.5
"""How much of another sample is taken in: at least, where the sample itself is there too."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """Samples between two of a batch: as many beside these, or in their place.

    Of inputs that are no floats nothing is in between, and there are no others. They are the same
    each time that one goes through.

    Attributes
    ----------
    part : Part
    draw : int
        Which others; with another number they are other ones.
    added : bool
        Whether they are beside the samples of the batch, which takes twice the time.
    most : int, optional
        Samples of a batch, which is divided if it has more of them, and need not stay whole.
    share : float
        Of the samples, which are others with another number too. Batches that have to stay whole
        have all of theirs.
    """

    part: Part
    draw: int = 0
    added: bool = True
    most: int | None = None
    share: float = 1.0

    def __iter__(self) -> Iterator[Feeds]:
        """Go through the batches."""
        for feeds, sampled in self._cases():
            count = len(feeds[sampled[0]]) if sampled else 0
            if self.most is None or self.part.fixed or count <= self.most:
                yield feeds
                continue
            for at in range(0, count, self.most):
                some = slice(at, at + self.most)
                yield feeds | {name: feeds[name][some] for name in sampled}

    def _cases(self) -> Iterator[tuple[Feeds, tuple[str, ...]]]:
        """Go through the batches, each with the names of the inputs that have samples."""
        rng = np.random.default_rng(self.draw)
        for feeds, sampled in self._chosen(rng):
            count = len(feeds[sampled[0]]) if sampled else 0
            if count < 2 or any(feeds[name].dtype.kind != "f" for name in sampled):
                yield feeds, sampled
                continue
            others = (np.arange(count) + rng.integers(1, count)) % count
            much = rng.uniform(LEAST if self.added else 0.0, MOST, count)
            mixed = {name: _between(feeds[name], others, much) for name in sampled}
            if not self.added:
                yield feeds | mixed, sampled
            elif self.part.fixed:
                yield feeds, sampled
                yield feeds | mixed, sampled
            else:
                both = {n: np.concatenate([feeds[n], new]) for n, new in mixed.items()}
                yield feeds | both, sampled

    def _chosen(self, rng: np.random.Generator) -> Iterator[tuple[Feeds, tuple[str, ...]]]:
        """Go through the batches with a share of their samples."""
        for feeds, sampled in self.part.cases():
            if self.share == 1 or self.part.fixed or not sampled:
                yield feeds, sampled
                continue
            count = len(feeds[sampled[0]])
            chosen = np.sort(rng.permutation(count)[: int(self.share * count + rng.random())])
            if len(chosen):
                yield feeds | {name: feeds[name][chosen] for name in sampled}, sampled


def _between(values: np.ndarray, others: np.ndarray, much: np.ndarray) -> np.ndarray:
    share = much.reshape(-1, *(1,) * (values.ndim - 1))
    mixed: np.ndarray = (1 - share) * values + share * values[others]
    return mixed.astype(values.dtype)

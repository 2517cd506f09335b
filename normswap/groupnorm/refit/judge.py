"""How near the student is to the teacher on the samples that are held out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.groupnorm.drift import LEAST_SAMPLES, Comparison

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from normswap.groupnorm.drift import Drift


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a set of parameters is worth.

    Attributes
    ----------
    error : float
        Energy of the differences beside that of what is wanted, summed over the outputs: less is
        better. Infinite where a value is not finite that should be.
    outputs : dict of str to Comparison
    """

    error: float
    outputs: dict[str, Comparison]

    @property
    def snr(self) -> float:
        """Of all outputs, each as loud as the other, in dB."""
        if not self.error:
            return math.inf
        return 10 * math.log10(len(self.outputs) / self.error)

    @property
    def agreement(self) -> float | None:
        """Share of the samples whose largest value is where it should be.

        None without classes, or where there are too few samples to tell.
        """
        enough = (c for c in self.outputs.values() if c.samples >= LEAST_SAMPLES)
        shares = [c.agreed / c.samples for c in enough]
        return min(shares, default=None)

    def drifts(self) -> dict[str, Drift]:
        """Return the figures by output."""
        return {name: found.result() for name, found in self.outputs.items()}


def judge(
    ours: Iterable[Mapping[str, npt.NDArray[Any]]],
    theirs: Iterable[Mapping[str, npt.NDArray[Any]]],
    outputs: Sequence[tuple[str, str, str]],
) -> Verdict:
    """Compare what two networks make of the same samples.

    Parameters
    ----------
    ours, theirs : iterable of dict of str to ndarray
        Tensors of every batch.
    outputs : sequence of (str, str, str)
        What to call a tensor, its name in ours and its name in theirs.
    """
    found = {name: Comparison() for name, _, _ in outputs}
    lost = False
    for here, there in zip(ours, theirs, strict=True):
        for name, our_name, their_name in outputs:
            one, other = here[our_name], there[their_name]
            if one.shape != other.shape:
                lost = True
                continue
            wide = one.astype(np.float64), other.astype(np.float64)
            lost |= bool((~np.isfinite(wide[0]) & np.isfinite(wide[1])).any())
            found[name].add(*wide)
    error = math.inf if lost else sum(_share(each) for each in found.values())
    return Verdict(error, found)


def _share(comparison: Comparison) -> float:
    if comparison.theirs:
        return comparison.difference / comparison.theirs
    return math.inf if comparison.difference else 0.0

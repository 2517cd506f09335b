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

FEW = LEAST_SAMPLES
"""Units that are fewer differ by chance, and are no proof that classes stay."""


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near the student is with a set of parameters.

    Attributes
    ----------
    error : float
        Energy of the differences beside that of what is wanted, summed over the outputs: less is
        better. Infinite where a value is not finite that should be.
    outputs : dict of str to Comparison
    units : (U,) ndarray
        The error by what the samples belong to, of which it is the sum.
    classes : (U,) ndarray
        What the probabilities of classes lack, by the same: the divergence of Kullback and Leibler,
        summed over samples and outputs ``(N, C)``; zeros where there are many units. Scores that
        come nearer to their mean have a smaller error, and may be of other classes.
    """

    error: float
    outputs: dict[str, Comparison]
    units: npt.NDArray[np.float64]
    classes: npt.NDArray[np.float64]

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

    def gain(self, before: Nearness) -> float:
        """Return by what share the error has fallen, less what may be chance.

        Of few units more is asked for: what the probabilities of classes lack has to fall too, and
        it is the lesser of both.

        Parameters
        ----------
        before : Nearness
            On the same samples.
        """
        if not math.isfinite(self.error):
            return -math.inf
        if not math.isfinite(before.error):
            return math.inf
        share = _fall(before.units, self.units)
        if before.classes.any():
            return min(share, _fall(before.classes, self.classes))
        return share

    def drifts(self) -> dict[str, Drift]:
        """Return the figures by output."""
        return {name: found.result() for name, found in self.outputs.items()}


def judge(
    ours: Iterable[Mapping[str, npt.NDArray[Any]]],
    theirs: Iterable[Mapping[str, npt.NDArray[Any]]],
    outputs: Sequence[tuple[str, str, str]],
    units: Sequence[npt.NDArray[np.int_]],
) -> Nearness:
    """Compare what two networks make of the same samples.

    Parameters
    ----------
    ours, theirs : iterable of dict of str to ndarray
        Tensors of every batch.
    outputs : sequence of (str, str, str)
        What to call a tensor, its name in ours and its name in theirs.
    units : sequence of (N,) ndarray of int
        Of every batch: the number of the unit that each sample belongs to.
    """
    found = {name: Comparison() for name, _, _ in outputs}
    count = 1 + max(int(own.max()) for own in units)
    away = {name: np.zeros(count) for name in found}
    classes = np.zeros(count)
    lost = False
    for here, there, own in zip(ours, theirs, units, strict=True):
        for name, our_name, their_name in outputs:
            one, other = here[our_name], there[their_name]
            if one.shape != other.shape:
                lost = True
                continue
            wide = one.astype(np.float64), other.astype(np.float64)
            lost |= bool((~np.isfinite(wide[0]) & np.isfinite(wide[1])).any())
            found[name].add(*wide)
            with np.errstate(invalid="ignore", over="ignore"):
                away[name] += _by_unit(np.square(wide[0] - wide[1]), own, count)
                if count < FEW and one.ndim == 2 and one.shape[1] > 1:
                    classes += _by_unit(_divergence(*wide), own, count)
    error = math.inf if lost else sum(_share(each) for each in found.values())
    shares = [away[name] / (each.theirs or 1.0) for name, each in found.items()]
    return Nearness(error, found, np.sum(shares, axis=0), classes)


def _fall(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> float:
    """Return by what share the sum over the units has fallen, less what may be chance.

    Of few units that is the standard error of the fall: a fit that brings one picture much nearer,
    and others further away, has gained nothing. Of one alone, nothing is known of chance; of many,
    it is small beside what is lost by waiting for the sure.
    """
    gains = before - after
    count = len(gains)
    chance = math.sqrt(count) * float(gains.std(ddof=1)) if 1 < count < FEW else 0.0
    return (float(gains.sum()) - chance) / (float(before.sum()) or 1.0)


def _divergence(
    ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return what our probabilities of classes lack of theirs, by sample, both given as scores."""
    logs = []
    for scores in (ours, theirs):
        shifted = scores - scores.max(axis=1, keepdims=True)
        logs.append(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
    lacking: npt.NDArray[np.float64] = (np.exp(logs[1]) * (logs[1] - logs[0])).sum(axis=1)
    return lacking


def _by_unit(
    values: npt.NDArray[np.float64], own: npt.NDArray[np.int_], count: int
) -> npt.NDArray[np.float64]:
    """Return sums by unit of what is finite; of what is not by sample, each has its part."""
    known = np.where(np.isfinite(values), values, 0.0)
    if known.ndim and len(known) == len(own):
        shares = known.reshape(len(own), -1).sum(axis=1)
    else:
        shares = np.full(len(own), known.sum() / len(own))
    return np.bincount(own, shares, minlength=count).astype(np.float64, copy=False)


def _share(comparison: Comparison) -> float:
    if comparison.theirs:
        return comparison.difference / comparison.theirs
    return math.inf if comparison.difference else 0.0

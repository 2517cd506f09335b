"""What a refit did: which layers were fitted, how far, and what it brought."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from normswap.plain import AsDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from normswap.groupnorm.drift import Drift
    from normswap.groupnorm.options import FittedAffine
    from normswap.groupnorm.refit.layers import Constant


@dataclass(frozen=True, slots=True)
class FitStep(AsDict):
    """A layer that was fitted.

    Attributes
    ----------
    layer : str
        Or how many together.
    kind : str
        ``"weight"`` or ``"affine"``, fitted to what the layer gives; ``"weights"`` or
        ``"affines"``, all at once to the outputs.
    lam : float
        How much the weight was held on to, beside the mean of the diagonal; 0 where that was by
        ending the search early.
    share : float
        How much of the way to the fit was taken.
    before, after : float
        Of the outputs of the held-out samples: the SNR beside the original's, in dB.
    agreement : float or None
        Share of the held-out samples whose largest value is then at the place that it has in the
        original, where an output is scores of classes.
    rounds : int
        Of conjugate gradients, after which the search was ended.
    """

    layer: str
    kind: str
    lam: float
    share: float
    before: float
    after: float
    agreement: float | None = None
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Unfitted(AsDict):
    """A layer that keeps its weight.

    Attributes
    ----------
    layer, why : str
    """

    layer: str
    why: str


@dataclass(frozen=True, slots=True)
class Searched(AsDict):
    """What the numbers of groups are worth that a search found, each after a fit.

    Attributes
    ----------
    asked, found : float
        Of the outputs of the held-out samples: the SNR in dB with the numbers that were asked for,
        and with those that were found. The better ones are taken. `found` is None where they are
        the same.
    kept : int
        How many layers have tensors that can't be read, for which nothing was searched.
    """

    asked: float
    found: float | None
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Fit(AsDict):
    """What least squares brought.

    Attributes
    ----------
    fitted, held_out : int
        How many samples it was fitted to, and by how many others every step was judged.
    before, after : dict of str to Drift
        By name of the output, on the held-out samples.
    steps : tuple of FitStep
        In the order in which they were taken.
    unfitted : tuple of Unfitted
    searched : Searched or None
        None where no other numbers of groups were searched.
    """

    fitted: int
    held_out: int
    before: dict[str, Drift]
    after: dict[str, Drift]
    steps: tuple[FitStep, ...] = ()
    unfitted: tuple[Unfitted, ...] = ()
    searched: Searched | None = None

    @property
    def weights(self) -> bool:
        """Whether there are weights among what was fitted."""
        return any(step.kind in {"weight", "weights"} for step in self.steps)


@dataclass(frozen=True, slots=True)
class Refitted:
    """The constants that were fitted.

    Attributes
    ----------
    fit : Fit
    constants : list of (Constant, ndarray)
        Those of weights and biases, in the type in which they are stored.
    affines : Mapping[(str, str), FittedAffine]
        Of layers, by the path of the graph and the name of the output.
    snr : float
        Of all outputs of the held-out samples, in dB.
    """

    fit: Fit
    constants: list[tuple[Constant, npt.NDArray[np.generic]]]
    affines: Mapping[tuple[str, str], FittedAffine] = field(default_factory=dict)
    snr: float = math.nan

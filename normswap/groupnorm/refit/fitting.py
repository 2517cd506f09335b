"""Fit a swapped network to the original: all at once, and then layer by layer.

The teacher is the original network, the student the swapped one with all that was fitted so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from normswap.errors import DataError
from normswap.files.scratch import scratch_folder
from normswap.groupnorm.refit.opening import open_pair
from normswap.groupnorm.refit.outputs import fit_outputs
from normswap.groupnorm.refit.sweep import sweep
from normswap.groupnorm.refit.trial import Trial
from normswap.runtime.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from normswap.groupnorm.plan import SwapPlan
    from normswap.groupnorm.refit.holdout import Part
    from normswap.groupnorm.refit.outcome import Refitted
    from normswap.progress import Progress


@dataclass(frozen=True, slots=True)
class RefitOptions:
    """How a network is fitted.

    Attributes
    ----------
    weights, affines : bool
        What is fitted: the weights of linear layers; the scale and bias of group normalizations.
    timeout : float
        Seconds for one run.
    """

    weights: bool = True
    affines: bool = True
    timeout: float = 600.0


def refit(
    original: Path,
    plan: SwapPlan,
    fit: Part,
    held_out: Part,
    how: RefitOptions,
    progress: Progress,
) -> Refitted:
    """Fit the layers of a swapped network to what they give in the original.

    Parameters
    ----------
    original : Path
        The model that was planned for.
    plan : SwapPlan
    fit, held_out : Part
        Samples to fit to, and others to judge every step by.
    how : RefitOptions
    progress : callable

    Raises
    ------
    DataError
        No output tells how near the networks are.
    RunError, RunTimeoutError
        The runtime can't run a network.
    """
    with scratch_folder() as folder:
        pair = open_pair(original, plan, folder, weights=how.weights, affines=how.affines)
        if not pair.outputs:
            raise DataError(
                "The model has no output of a float type, nor one of an ArgMax: there is nothing "
                "to judge a fit by.",
                tip="Leave out --calibrate: a swap without data needs no such output.",
            )
        common: dict[str, Any] = {"alike": True, "timeout": how.timeout, "remembered": 4}
        with (
            Session(
                pair.teacher.path, label="the original model", taps=pair.teacher.taps, **common
            ) as teacher,
            Session(
                pair.student.path, label="the swapped model", taps=pair.student.taps, **common
            ) as student,
        ):
            trial = Trial(pair, teacher, student, fit, held_out, how.timeout, progress)
            fit_outputs(trial)
            sweep(trial)
            return trial.refitted()

"""What a swap did: its report, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from normswap.errors import ExitCode
from normswap.plain import called
from normswap.workflows.outlook import NOTHING, Outlook
from normswap.workflows.result import Result, RewriteReport

if TYPE_CHECKING:
    from normswap.groupnorm.accuracy import Accuracy
    from normswap.groupnorm.drift import DriftReport
    from normswap.groupnorm.plan import SwapPlan
    from normswap.groupnorm.refit.outcome import Fit
    from normswap.groupnorm.regroup.regroup import Regrouping
    from normswap.groupnorm.state_dict import StateDict
    from normswap.workflows.sameness import Sameness
    from normswap.workflows.swap_check import SwapCheck


@dataclass(frozen=True, slots=True)
class SwapReport(RewriteReport):
    """What a swap did.

    Attributes
    ----------
    source, output, size_before, size_after, failing
        See :class:`~normswap.workflows.result.RewriteReport`.
    plan : SwapPlan
    check : SwapCheck or None
        None if no check was requested.
    uncalibrated : DriftReport or None
        The drift without the calibration, if there was one; that with it is in the check.
    calibrated : int
        Number of layers that were refitted.
    accuracy : Accuracy or None
        Measured with the labels, if there were any.
    notes : tuple of str
        Which parts of the data were not used.
    normalization : Sameness or None
        Whether the network that normalizes first is the same function as the original. None if no
        check was requested, or there was nothing to normalize.
    fit : Fit or None
        What was fitted to data, and what each step gained on held-out samples.
    regrouping : Regrouping or None
        How the channels were permuted, if that was requested.
    permutation : Sameness or None
        Whether the network with permuted channels is the same function.
    separation : Sameness or None
        Whether the network is the same function in which functions whose calls normalize tensors of
        several widths are one for each width; or in which functions are inlined. None if no check
        was requested, or there are no such functions.
    inlined : bool
        Whether functions that normalize were inlined: for torch, because calls set attributes of
        their normalizations, or so that the channels of each call can have an order of their own.
    unfolded : int
        BatchNormalizations that were restored first, see :func:`normswap.unfold`.
    evaluated : bool
        Whether the drift and the accuracy are on data that was given for them.
    state_dict : StateDict or None
        What was written for torch, if that was requested.
    outlook : Outlook
        What is left to do, for tips; not part of the JSON.
    """

    plan: SwapPlan
    check: SwapCheck | None = None
    uncalibrated: DriftReport | None = field(
        default=None, metadata=called("drift_before_calibration")
    )
    calibrated: int = 0
    accuracy: Accuracy | None = None
    notes: tuple[str, ...] = ()
    normalization: Sameness | None = None
    fit: Fit | None = None
    regrouping: Regrouping | None = None
    permutation: Sameness | None = None
    separation: Sameness | None = None
    inlined: bool = False
    unfolded: int = 0
    evaluated: bool = False
    state_dict: StateDict | None = None
    outlook: Outlook = field(default=NOTHING, repr=False)

    SCHEMA: ClassVar[str] = "normswap/swap/1"

    @property
    def stage(self) -> str:
        """What the swapped network is called after a fit."""
        return "refitted" if self.fit is not None and self.fit.weights else "calibrated"

    @property
    def exit_code(self) -> ExitCode:
        """How a command that did this ends."""
        if self.failing:
            return ExitCode.FINDINGS
        for same in (self.separation, self.permutation, self.normalization):
            if same is not None and same.verdict.exit_code is not ExitCode.OK:
                return same.verdict.exit_code
        return ExitCode.OK if self.check is None else self.check.exit_code


class SwapResult(Result[SwapReport]):
    """A model with group normalizations, and the report on the swap."""

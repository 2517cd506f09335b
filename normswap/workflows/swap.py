"""The whole story of a swap: load, plan, calibrate, apply, check, and only then save."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from normswap.errors import ExitCode
from normswap.graph.build import build_network
from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.calibrate import CalibrationOptions, calibrate
from normswap.groupnorm.carried import require_finite
from normswap.groupnorm.drift import DriftReport, measure_drift
from normswap.groupnorm.options import FASTEST, SwapOptions, VerifyOptions
from normswap.groupnorm.planner import plan_swap, with_timings
from normswap.groupnorm.race import measure
from normswap.groupnorm.verify import SwapCheck, verify_swap
from normswap.inputs.dataset import open_data
from normswap.model import load
from normswap.model.staging import output_name, staged_output
from normswap.progress import Progress, silent
from normswap.runtime.session import Session
from normswap.runtime.survey import resolve
from normswap.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from normswap.groupnorm.plan import SwapPlan
    from normswap.inputs.dataset import Dataset
    from normswap.model import Model
    from normswap.model.loading import Source

    Data = str | Path | Iterable[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SwapReport:
    """What a swap did.

    Attributes
    ----------
    source, output : str
        What was read, and what was written; the output is empty where nothing was.
    plan : SwapPlan
    check : SwapCheck or None
        None where no check was asked for.
    uncalibrated : DriftReport or None
        The drift without the calibration, where there was one; that with it is in the check.
    calibrated : int
        Number of layers that were refitted.
    size_before, size_after : int
        Bytes of the model, external data included; the latter 0 where nothing was written.
    """

    source: str
    output: str
    plan: SwapPlan
    check: SwapCheck | None = None
    uncalibrated: DriftReport | None = None
    calibrated: int = 0
    size_before: int = 0
    size_after: int = 0

    @property
    def exit_code(self) -> ExitCode:
        """How a command that did this ends."""
        return ExitCode.OK if self.check is None else self.check.exit_code

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "command": "bn-to-gn",
            "source": self.source,
            "output": self.output or None,
            "written": bool(self.output),
            "size_before": self.size_before,
            "size_after": self.size_after or None,
            "plan": self.plan.to_dict(),
            "calibrated": self.calibrated,
            "drift_before_calibration": self.uncalibrated and self.uncalibrated.to_dict(),
            "check": None if self.check is None else self.check.to_dict(),
            "exit_code": int(self.exit_code),
        }


def plan_report(
    source: Source,
    options: SwapOptions,
    *,
    how: VerifyOptions | None = None,
    progress: Progress = silent,
) -> SwapReport:
    """Say what :func:`swap` would do to a model, and do nothing.

    Parameters
    ----------
    source : path, bytes or binary stream
    options : SwapOptions
    how : VerifyOptions, optional
        How forms are timed, where the fastest is asked for.
    progress : callable
        Is told what is being done.

    Raises
    ------
    ModelError
        If the model is unreadable, a layer can't be swapped, or a constant is not finite.
    UsageError
        If the options don't fit the model.
    RunError
        If forms are timed, and the runtime is unavailable, crashed or timed out.
    """
    progress("reading the model")
    model = load(source)
    progress("planning")
    options = replace(options, provider=resolve(options.provider))
    plan = plan_swap(model, options)
    _require_finite(model, plan)
    if options.form == FASTEST:
        with model.original() as original:
            plan = _raced(original, plan, how, None, progress)
    return SwapReport(model.name, "", plan, size_before=model.size)


def swap(
    source: Source,
    output: str | Path | BinaryIO,
    options: SwapOptions,
    *,
    overwrite: bool = False,
    check: VerifyOptions | None = None,
    how: VerifyOptions | None = None,
    data: Data | None = None,
    samples: int | None = None,
    calibration: CalibrationOptions | None = None,
    progress: Progress = silent,
) -> SwapReport:
    """Swap the BatchNormalizations of a model for group normalizations, check it, and save it.

    Parameters
    ----------
    source : path, bytes or binary stream
    output : path or binary stream
        Where the swapped model goes. It is complete there or untouched, whatever happens.
    options : SwapOptions
    overwrite : bool
        Whether an existing file may be replaced.
    check : VerifyOptions, optional
        How the result is checked; not at all if it is left out.
    how : VerifyOptions, optional
        How forms are timed, where the fastest is asked for; as the check is, if it is left out.
    data : path or iterable of feeds, optional
        See :func:`normswap.inputs.dataset.open_data`. The check and the drift use it, and so does
        the calibration.
    samples : int, optional
        Use the first so many samples of the data.
    calibration : CalibrationOptions, optional
        Refit the layers on the data.
    progress : callable
        Is told what is being done.

    Returns
    -------
    SwapReport
        Where the check failed, nothing was written and :attr:`SwapReport.output` is empty.

    Raises
    ------
    ModelError, DataError
        If the model or the data is unreadable, invalid or unsupported, or a constant of the model,
        the data or what is fitted to it is not finite.
    UsageError
        If the options don't fit the model.
    RunError
        If the runtime is unavailable, crashed or timed out.

    Examples
    --------
    >>> report = swap("model.onnx", "model.gn.onnx", SwapOptions())  # doctest: +SKIP
    >>> report.check.verdict.value  # doctest: +SKIP
    'equivalent'
    """
    progress("reading the model")
    model = load(source)
    progress("planning")
    options = replace(options, provider=resolve(options.provider))
    plan = plan_swap(model, options)
    _require_finite(model, plan)
    report = SwapReport(model.name, "", plan, size_before=model.size)
    with model.original() as original:
        batches: Dataset | None = None
        if data is not None:
            from normswap.inputs.signature import read_signature

            batches = open_data(data, read_signature(original), samples=samples)
        if calibration is not None and batches is not None and plan.swaps:
            affines = calibrate(original, plan, batches, calibration, progress)
            if check is not None:
                before = _plain_drift(original, plan, batches, check)
                report = replace(report, uncalibrated=before)
            plan = plan_swap(model, replace(options, affines=affines))
            report = replace(report, plan=plan, calibrated=len(affines))
        if options.form == FASTEST:
            plan = _raced(original, plan, how or check, batches, progress)
            report = replace(report, plan=plan)
        apply_swaps(plan, model)
        progress("writing")
        with staged_output(model, output, overwrite=overwrite) as staged:
            if check is not None and plan.swaps:
                result = verify_swap(
                    original, staged.path, plan, check, batches=batches, progress=progress
                )
                report = replace(report, check=result)
            if report.exit_code is ExitCode.OK:
                staged.commit()
                report = replace(report, output=output_name(output), size_after=staged.size)
    return report


def _require_finite(model: Model, plan: SwapPlan) -> None:
    """Raise an error if a swap would carry a constant on that is not finite."""
    if plan.swaps:
        targets = {swap.key for swap in plan.swaps}
        require_finite(model.name, build_network(model), targets, "swapped")


def _raced(
    original: Path,
    plan: SwapPlan,
    how: VerifyOptions | None,
    batches: Dataset | None,
    progress: Progress,
) -> SwapPlan:
    """Return the plan with every layer in the form that is the fastest here."""
    if not plan.swaps:
        return plan
    how = how or VerifyOptions(plan.options.provider)
    timings = measure(original, plan, how, batches=batches, progress=progress)
    return with_timings(plan, timings)


def _plain_drift(
    original: Path, plan: SwapPlan, batches: Dataset, check: VerifyOptions
) -> DriftReport:
    """Measure the drift of the swap without its calibration."""
    from normswap.inputs.signature import read_signature
    from normswap.model import stage

    model = load(original)
    layers = {layer.y: layer.data_type for layer in plan.visible_layers}
    apply_swaps(plan, model)
    outputs = [port.name for port in read_signature(original).outputs if "float" in port.dtype]
    with scratch_folder() as folder:
        path = folder / "swapped.onnx"
        with stage(model, path) as staged:
            staged.commit()
        how: dict[str, Any] = {
            "taps": layers,
            "provider": check.provider,
            "provider_options": check.provider_options,
            "timeout": check.timeout,
            "alike": True,
        }
        with (
            Session(original, label="the original model", **how) as before,
            Session(path, label="the swapped model", **how) as after,
        ):
            return measure_drift(before, after, batches, outputs, list(layers), silent)

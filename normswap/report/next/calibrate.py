"""A swap without data keeps more of the accuracy with some: ``--calibrate``, ``--refit``."""

from __future__ import annotations

from typing import Any

FAR = 20.0
"""Signal-to-noise ratio in dB from which on nobody needs to be told of the calibration."""


def tip(report: Any, model: str) -> str | None:
    """Say so of a network that has moved far, or on noise only, which says nothing."""
    check = report.check
    if check is None or not check.drift.outputs or report.uncalibrated is not None:
        return None
    if not check.drift.own:
        return (
            "--calibrate DATA fits the scale and bias of each layer to inputs of the "
            "model, and --refit also the weights; --evaluate DATA --labels NAME measures "
            "the accuracy of both networks"
        )
    if min(drift.snr for drift in check.drift.outputs.values()) >= FAR:
        return None
    return (
        "--calibrate DATA --refit fits the weights to data, which brings the outputs "
        "closer to the original's if it also helps on held-out samples"
    )

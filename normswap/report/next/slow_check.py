"""A check that took long says what the time was spent on, and which depth spends less."""

from __future__ import annotations

from typing import Any

from normswap.plain import kind_of

SLOW = 20.0
"""Seconds from which on one wants to know."""


def tip(report: Any, model: str) -> str | None:
    """Say what the parts took, some of them at the same time; and what does without the largest."""
    check = report if kind_of(report) == "check" else report.check
    if check is None or check.seconds < SLOW:
        return None
    spent = {
        "to run both models in onnxruntime": _wall(check, "onnxruntime"),
        "to evaluate them in float64": _wall(check, "arbiter"),
        "to prove them equal": 0.0 if check.proof is None else check.proof.seconds,
    }
    parts = sorted(((seconds, what) for what, seconds in spent.items() if seconds), reverse=True)
    listed = ", ".join(f"{seconds:.1f} s {what}" for seconds, what in parts)
    said = f"the check took {check.seconds:.1f} s" + (f": {listed}" if listed else "")
    return said + _advice(check, parts, kind_of(report))


def _wall(check: Any, engine: str) -> float:
    return float(sum(run.wall_seconds for run in check.runs if run.engine == engine))


def _advice(check: Any, parts: list[tuple[float, str]], kind: str) -> str:
    """Say which other depth concludes the same in less time, where that is known."""
    whole = check.proof is not None and check.proof.is_whole
    if whole and check.depth == "full":
        return "; --check quick reaches the same verdict by the proof and one run of each model"
    if whole and kind != "swap" and parts and parts[0][1] != "to prove them equal":
        return "; --check proof reaches the same verdict without running the models"
    return ""

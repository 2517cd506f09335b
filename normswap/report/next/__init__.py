"""What a person would do next: at most two tips behind a report, and none where there is nothing.

A tip is a file: ``tip`` returns a sentence, or None in any situation in which it would not help. It
names a command that can be run as it stands. To add one, add a file and its name to the kinds of
reports that it is about, most useful first, and a case to ``tests/report/next/`` where it appears,
is followed and helps, and one where it must not appear.
"""

from __future__ import annotations

import importlib
import shlex
from typing import TYPE_CHECKING

from normswap.plain import kind_of

if TYPE_CHECKING:
    from normswap.report.envelope import Envelope, Report

MOST = 2
"""Tips behind a report."""

TIPS = {
    "fold": ("training", "overridable", "growth", "folded", "export", "slow_check"),
    "swap": (
        "folded",
        "export",
        "training",
        "indivisible",
        "only_kept",
        "calibrate",
        "slow_check",
    ),
    "recalibrate": ("overridable",),
    "unfold": ("slow_check",),
    "check": ("swapped", "slow_check"),
    "inspect": ("training", "foldable"),
}
"""The files by the kinds of reports that they are about."""

PIPED = "MODEL"
"""What a model is called that has no name."""


def tips(report: Report, envelope: Envelope | None = None) -> tuple[str, ...]:
    """Return what a person would do next, a sentence each.

    Parameters
    ----------
    report : FoldReport, SwapReport, ...
    envelope : Envelope, optional
        Knows the path of the model as it was given; without it, it is what the report calls it.

    Returns
    -------
    tuple of str
        At most two.

    Examples
    --------
    >>> import normswap
    >>> tips(normswap.plan("models/digits_resnet_training.onnx"))[0][:64]
    '8 are in training mode: `normswap recalibrate --freeze digits_re'
    """
    check = getattr(report, "check", None)
    if check is not None and check.exit_code:
        return ()  # nothing was written, and why is what matters
    model = _model(report, envelope)
    names = (f"normswap.report.next.{name}" for name in TIPS.get(kind_of(report), ()))
    found = (importlib.import_module(name).tip(report, model) for name in names)
    return tuple(sentence for sentence in found if sentence)[:MOST]


def _model(report: Report, envelope: Envelope | None) -> str:
    """Return what a shell calls the model that a report is about."""
    read = envelope.inputs[0].path if envelope is not None and envelope.inputs else None
    name = read or str(getattr(report, "original", "") or getattr(report, "source", PIPED))
    return PIPED if name.startswith("<") else shlex.quote(name)

"""What a person would do next: at most two tips behind a report, and none where there is nothing.

A tip is a function, which returns a sentence, or None in any situation in which it would not help.
It names a command that can be run as it stands.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from normswap.graph.reasons import Reason
from normswap.plain import kind_of

if TYPE_CHECKING:
    from normswap.report.envelope import Envelope, Report

MOST = 2
"""Tips behind a report."""

PIPED = "MODEL"
"""What a model is called that has no name."""

FAR = 20.0
"""Signal-to-noise ratio in dB from which on nobody needs to be told of the calibration."""

SHOWN = 3
"""Weights that are named."""

SLOW = 20.0
"""Seconds of a check from which on one wants to know what they were spent on."""

_NORMALIZATIONS = frozenset(
    {"GroupNorm", "GroupNormalization", "InstanceNormalization", "LayerNormalization"}
)
_WRITTEN_OUT = frozenset({"ReduceMean", "Sqrt"})


def tips(report: Report, envelope: Envelope | None = None) -> tuple[str, ...]:
    """Return what a person would do next, a sentence each.

    Parameters
    ----------
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
    read = envelope.inputs[0].path if envelope is not None and envelope.inputs else None
    name = read or str(getattr(report, "original", "") or getattr(report, "source", PIPED))
    model = PIPED if name.startswith("<") else shlex.quote(name)
    found = (tip(report, model) for tip in TIPS.get(kind_of(report), ()))
    return tuple(sentence for sentence in found if sentence)[:MOST]


def training(report: Any, model: str) -> str | None:
    """Name what makes an inference model of a training-mode export.

    Not of nodes that only look so, such as what standardizes a weight, or has no statistics of its
    own to go on with. To a swap they matter where it would have normalized by them first.
    """
    count, swaps = report.outlook.freezable, kind_of(report) == "swap"
    if swaps:
        went = (swap.statistics for swap in report.plan.swaps)
        if not any(each is not None and each.reason is Reason.TRAINING_MODE for each in went):
            return None
    if not count:
        return None
    said = (
        f"{count} {'is' if count == 1 else 'are'} in training mode: `normswap recalibrate "
        f"--freeze {model}` makes it an inference model, with the statistics in the file"
    )
    return said + "; until then, a swap normalizes with them first" * swaps


def overridable(report: Any, model: str) -> str | None:
    """Say that weights which are graph inputs too are constants by ``--assume-constant``."""
    if kind_of(report) == "recalibrate":
        count = sum(entry.reason is Reason.OVERRIDABLE for entry in report.untouched)
        if not count:
            return None
        return (
            f"{count} kept because the statistics are also graph inputs, so a caller "
            "could override them; if no caller does, add --assume-constant"
        )
    count = report.outlook.assumable
    if not count:
        return None
    tensors = (entry.tensor_of(Reason.OVERRIDABLE) for entry in report.plan.kept)
    found = list(dict.fromkeys(tensor for tensor in tensors if tensor is not None))
    names = ", ".join(found[:SHOWN]) + ", ..." * (len(found) > SHOWN)
    return (
        f"{count} kept because weights are also graph inputs, so a caller could override "
        f"them ({names}); if no caller does, `normswap fold {model} --assume-constant` "
        f"folds {'it' if count == 1 else 'them'}"
    )


def growth(report: Any, model: str) -> str | None:
    """Say how large the limit of ``--max-growth`` has to be."""
    count, factor = report.outlook.withheld, report.outlook.growth
    if not count:
        return None
    return (
        f"{count} kept because of --max-growth: `normswap fold {model} --max-growth "
        f"{factor:g}` folds {'it' if count == 1 else 'them'} too"
    )


def folded(report: Any, model: str) -> str | None:
    """Say that a model's exporter has folded everything; to a swap also how to go on."""
    traces = report.outlook.traces
    if not traces:
        return None
    if kind_of(report) == "fold":
        return f"the model looks folded already, so nothing is left to do: {traces[0]}"
    groups = f"{report.plan.options.policy.as_option} --on-indivisible gcd"
    return (
        f"the model looks folded already: {traces[0]}; `normswap bn-to-gn {groups} "
        f"--unfold --calibrate DATA {model}` first puts the BatchNormalizations back, "
        "with statistics from DATA, which are some inputs of the model"
    )


def export(report: Any, model: str) -> str | None:
    """Say how to export with BatchNormalizations, where a layer may have had one.

    A fold whose model looks folded already has what it wants.
    """
    from normswap.graph.batchnorm import EXPORT_TIP

    outlook = report.outlook
    if not outlook.may_have_had or (outlook.traces and kind_of(report) == "fold"):
        return None
    return EXPORT_TIP


def indivisible(report: Any, model: str) -> str | None:
    """Say how to swap the layers that ``--on-indivisible keep`` has left."""
    count = sum(entry.reason is Reason.INDIVISIBLE for entry in report.plan.untouched)
    if not count:
        return None
    policy = report.plan.options.policy
    whose = "its" if count == 1 else "their"
    return (
        f"{count} kept because {policy} don't divide {whose} channels: `normswap bn-to-gn "
        f"{policy.as_option} --on-indivisible gcd {model}` uses the greatest common "
        "divisor instead"
    )


def only_kept(report: Any, model: str) -> str | None:
    """Say that a fold removes what ``--only-kept`` has left in the model that was written."""
    count = sum(entry.reason is Reason.FOLDABLE for entry in report.plan.untouched)
    if not count or report.output is None or report.output.startswith("<"):
        return None
    return (
        f"`normswap fold {shlex.quote(report.output)}` removes the {count} foldable "
        "BatchNormalization that --only-kept left"
    )


def calibrate(report: Any, model: str) -> str | None:
    """Name the calibration where the network has moved far, or ran on random inputs only."""
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


def slow_check(report: Any, model: str) -> str | None:
    """Say what a long check spent its time on, and which depth concludes the same in less.

    The parts are partly at the same time.
    """
    kind = kind_of(report)
    check = report if kind == "check" else report.check
    if check is None or check.seconds < SLOW:
        return None
    walls = {
        engine: sum(run.wall_seconds for run in check.runs if run.engine == engine)
        for engine in ("onnxruntime", "arbiter")
    }
    spent = {
        "to run both models in onnxruntime": walls["onnxruntime"],
        "to evaluate them in float64": walls["arbiter"],
        "to prove them equal": 0.0 if check.proof is None else check.proof.seconds,
    }
    parts = sorted(((seconds, what) for what, seconds in spent.items() if seconds), reverse=True)
    listed = ", ".join(f"{seconds:.1f} s {what}" for seconds, what in parts)
    said = f"the check took {check.seconds:.1f} s" + (f": {listed}" if listed else "")
    if check.proof is None or not check.proof.is_whole:
        return said
    if check.depth == "full":
        said += "; --check quick reaches the same verdict by the proof and one run of each model"
    elif kind != "swap" and parts and parts[0][1] != "to prove them equal":
        said += "; --check proof reaches the same verdict without running the models"
    return said


def swapped(report: Any, model: str) -> str | None:
    """Say that a swap is checked by the command that makes it, if that is all that differs."""
    apart = () if report.proof is None else report.proof.apart
    count = sum(map(_is_swap, apart))
    if not count or count < len(apart):
        return None
    places = {1: "the place", 2: "both places"}.get(count, f"all {count} places")
    return (
        f"a BatchNormalization became another normalization in {places} where the models differ: "
        "a swap is a different function on purpose, and the command that makes it checks it; "
        f"`normswap bn-to-gn --groups GROUPS {model} --certificate swap.json` also records that "
        "check"
    )


def _is_swap(region: Any) -> bool:
    before, after = ({title.split()[0] for title in s} for s in (region.before, region.after))
    is_normalized = bool(after & _NORMALIZATIONS) or after >= _WRITTEN_OUT
    gone = "BatchNormalization" in before and "BatchNormalization" not in after
    return gone and is_normalized and not before & _NORMALIZATIONS


def foldable(report: Any, model: str) -> str | None:
    """Say what a fold removes."""
    count = report.foldable
    if not count:
        return None
    return (
        f"`normswap fold {model}` removes {count} of the normalizations, and proves that the "
        "function stays the same"
    )


TIPS = {
    "fold": (training, overridable, growth, folded, export, slow_check),
    "swap": (folded, export, training, indivisible, only_kept, calibrate, slow_check),
    "recalibrate": (overridable,),
    "unfold": (slow_check,),
    "check": (swapped, slow_check),
    "inspect": (training, foldable),
}
"""By the kinds of reports that they are about, the most useful first."""

"""How often two networks are right, by the labels of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.errors import DataError
from normswap.groupnorm.drift import samples_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from normswap.progress import Progress
    from normswap.runtime.session import Session


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of labels that are told right.

    Attributes
    ----------
    output : str
        The output that was held against the labels.
    original, swapped : float
    labels : int
        How many labels those are shares of: one for each sample, or for each pixel of it.
    left_out : int
        How many other labels there are: they name no class of the output, as those of pixels that
        belong to none do (often -1 or 255).
    """

    output: str
    original: float
    swapped: float
    labels: int
    left_out: int = 0


def measure_accuracy(
    original: Session,
    swapped: Session,
    batches: Iterable[Mapping[str, Any]],
    labels: npt.NDArray[Any],
    outputs: Sequence[str],
    progress: Progress,
) -> Accuracy:
    """Count how often two networks tell the label.

    Parameters
    ----------
    original, swapped : Session
    batches : iterable of feeds
    labels : (N, *spatial) ndarray
        Of all samples, batch after batch: the number of the class of each, or of each pixel.
    outputs : sequence of str
        Names of outputs. The first counts that has scores ``(N, C, *spatial)``, of which the
        largest is the class, or that has the classes themselves.
    progress : callable

    Raises
    ------
    DataError
        See :func:`telling_output`.
    """
    counts = [0, 0]
    name, at, total = "", 0, 0
    for number, feeds in enumerate(batches, start=1):
        progress(f"measuring the accuracy, batch {number}")
        name = name or telling_output(original, feeds, labels, outputs)
        truth = labels[at : at + samples_of(feeds)]
        at += len(truth)
        runs = [session.run(feeds, [name]) for session in (original, swapped)]
        known = _known(truth, runs[0][name])
        total += int(known.sum())
        for which, run in enumerate(runs):
            counts[which] += int(np.count_nonzero((_classes(run[name], truth) == truth) & known))
    first, second = (right / max(total, 1) for right in counts)
    return Accuracy(name, first, second, total, labels[:at].size - total)


def telling_output(
    network: Session,
    feeds: Mapping[str, Any],
    labels: npt.NDArray[Any],
    outputs: Sequence[str],
) -> str:
    """Return the output that labels are held against.

    Parameters
    ----------
    network : Session
    feeds : mapping
        The first batch.
    labels, outputs
        See :func:`measure_accuracy`.

    Raises
    ------
    DataError
        There is no such output, or no label names a class of it.
    """
    found = network.run(feeds, outputs)
    truth = labels[: samples_of(feeds)]
    name = _chosen(found, truth)
    if not _known(labels, found[name]).any():
        raise DataError(
            f"The labels are numbers from {labels.min()} to {labels.max()}, and none of them is "
            f"that of a class: output {name!r} has {found[name].shape[1]}.",
            tip="Number the classes from 0 on, as the model's outputs do.",
        )
    return name


def _chosen(outputs: Mapping[str, Any], truth: npt.NDArray[Any]) -> str:
    for name, value in outputs.items():
        if _classes(value, truth) is not None:
            return name
    shapes = ", ".join(f"{name} {list(np.shape(value))}" for name, value in outputs.items())
    raise DataError(
        f"No output of the model matches the labels, which have shape {list(truth.shape)} for a "
        f"batch; its outputs are {shapes}.",
        tip="Labels are class numbers: one per sample for an output of shape (N, classes), one per "
        "pixel for an output of shape (N, classes, ...).",
    )


def _known(labels: npt.NDArray[Any], value: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which labels name a class: any do, if an output has no scores but the classes."""
    if value.dtype.kind not in "fV":
        return np.full(labels.shape, True)
    known: npt.NDArray[np.bool_] = (labels >= 0) & (labels < value.shape[1])
    return known


def _classes(value: Any, truth: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Return the class that an output tells for each label, None where it tells none."""
    if not isinstance(value, np.ndarray):
        return None
    if value.dtype.kind not in "fV":
        return value.reshape(truth.shape) if value.size == truth.size else None
    if value.ndim != truth.ndim + 1 or value.shape[1] < 2:
        return None
    classes: npt.NDArray[Any] = value.astype(np.float64).argmax(axis=1)
    return classes if classes.shape == truth.shape else None

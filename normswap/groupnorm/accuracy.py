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
    """

    output: str
    original: float
    swapped: float
    labels: int


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
        There is no such output.
    """
    counts = [0, 0]
    name, at = "", 0
    for number, feeds in enumerate(batches, start=1):
        progress(f"measuring the accuracy, batch {number}")
        truth = labels[at : at + samples_of(feeds)]
        at += len(truth)
        runs = [session.run(feeds, [name] if name else outputs) for session in (original, swapped)]
        name = name or _chosen(runs[0], truth)
        for which, run in enumerate(runs):
            counts[which] += int(np.count_nonzero(_classes(run[name], truth) == truth))
    total = int(labels[:at].size)
    first, second = (count / max(total, 1) for count in counts)
    return Accuracy(name, first, second, total)


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

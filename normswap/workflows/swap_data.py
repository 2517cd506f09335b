"""The data of a swap: what is fitted to it, and what the check, the drift and labels are on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.errors import DataError
from normswap.groupnorm.accuracy import Accuracy, measure_accuracy, telling_output
from normswap.groupnorm.side_by_side import session_of, side_by_side
from normswap.inputs.arrayfiles import read_array
from normswap.inputs.data import open_data
from normswap.inputs.signature import read_signature
from normswap.spelling import no_such_file
from normswap.workflows.calibration import divide

if TYPE_CHECKING:
    import numpy.typing as npt

    from normswap.check.options import CheckOptions
    from normswap.groupnorm.calibrate import CalibrationOptions
    from normswap.groupnorm.refit.holdout import Part
    from normswap.inputs.data import Dataset
    from normswap.inputs.sets import Data
    from normswap.progress import Progress


@dataclass(frozen=True, slots=True)
class SwapData:
    """The data of a swap.

    Attributes
    ----------
    parts : (Part, Part) or None
        What is fitted to, and what is held out; None where nothing is fitted.
    shown : Dataset, Part or None
        What the check and the drift are on: data that was given for them, else what is held out.
    labels : ndarray or None
        Those of its samples.
    evaluated : bool
        Whether it was given for them.
    """

    parts: tuple[Part, Part] | None
    shown: Dataset | Part | None
    labels: npt.NDArray[Any] | None
    evaluated: bool
    _opened: tuple[Dataset, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not used, of the batches that were read."""
        return tuple(dict.fromkeys(note for data in self._opened for note in data.notes))

    def require_told(self, original: Path, how: CheckOptions) -> None:
        """Refuse labels that no output tells, before time is spent on what they shall judge.

        Raises
        ------
        DataError
        """
        feeds = None if self.labels is None or self.shown is None else next(iter(self.shown), None)
        if self.labels is None or feeds is None:
            return
        with session_of(original, "original", how) as network:
            telling_output(network, feeds, self.labels, _tensors(original))

    def accuracy(
        self, original: Path, swapped: Path, how: CheckOptions, progress: Progress
    ) -> Accuracy | None:
        """Measure how often the original and the swapped network are right, if there are labels."""
        if self.labels is None or self.shown is None:
            return None
        outputs = _tensors(original)
        with side_by_side(original, swapped, how) as (before, after):
            return measure_accuracy(before, after, self.shown, self.labels, outputs, progress)


def _tensors(model: Path) -> list[str]:
    """Return the outputs of a model that are tensors."""
    return [port.name for port in read_signature(model).outputs if port.kind == "tensor"]


def open_swap_data(
    original: Path,
    data: Data | None,
    evaluate: Data | None,
    labels: str | os.PathLike[str] | npt.NDArray[Any] | None,
    samples: int | None,
    fit: CalibrationOptions | None,
) -> SwapData:
    """Open the data of a swap: what is fitted to, and what the check and the drift use.

    Raises
    ------
    DataError
        The data doesn't fit the original, or the labels don't fit the data.
    """
    signature = read_signature(original)
    first = other = None
    if data is not None:
        units = None if fit is None else fit.units
        first = open_data(data, signature, samples=samples, units=units)
    if evaluate is not None:
        other = open_data(evaluate, signature, samples=samples)
    shown: Dataset | Part | None = other or first
    opened = tuple(each for each in (first, other) if each is not None)
    known = None if shown is None or labels is None else _labels(labels, opened[-1])
    parts = None
    if fit is not None and first is not None:
        parts = divide(first, signature, fit)
        if other is None:
            shown = parts[1]
            known = None if known is None else parts[1].of(known)
    return SwapData(parts, shown, known, other is not None, opened)


def _labels(labels: str | os.PathLike[str] | npt.NDArray[Any], data: Dataset) -> npt.NDArray[Any]:
    """Return the labels of some data: those of an array in it, or else of a file."""
    if not isinstance(labels, str | os.PathLike):
        return data.labels(np.asarray(labels))
    path = Path(labels)
    if path.suffix in {".npy", ".npz", ".pb"} and not path.is_file():
        raise DataError(f"There is no file {path} with labels.", tip=no_such_file(path))
    return data.labels(read_array(path) if path.is_file() else str(labels))

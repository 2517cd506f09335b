"""What is known of two models by what they do on the same inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.check.elements import tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from normswap.check.driving import Drive
    from normswap.check.report import RunReport
    from normswap.check.runner import Results
    from normswap.inputs.random import Case
    from normswap.inputs.signature import Signature

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Truths:
    """One case in float64.

    Attributes
    ----------
    original, rewritten : dict of str to numpy.ndarray
        By tensor.
    perturbed : tuple of dict
        The original with its weights perturbed.
    resolution : float
        As in `normswap.check.evidence.Function`.
    rounded : tuple of (dict, dict)
        Either model, and the same with its weights and results perturbed; where that was needed
        (`normswap.check.departure`).
    """

    original: Tensors
    perturbed: tuple[Tensors, ...]
    rewritten: Tensors
    resolution: float
    rounded: tuple[tuple[Tensors, Tensors], ...] = ()


@dataclass(frozen=True, slots=True)
class Arbitration:
    """The original in float64: which cases, on which inputs, with what result.

    `drive` and `driving` are the inputs that were to reach what others don't, those among them
    that did not are still to be tried on a rewritten model.
    """

    model: Signature
    indices: tuple[int, ...]
    feeds: tuple[dict[str, Any], ...]
    results: Results
    drive: Drive
    driving: tuple[dict[str, Any], ...]


@dataclass(slots=True)
class Observations:
    """What two models do; filled in as a check goes on.

    Attributes
    ----------
    cases : list of Case
        Those that the runtime ran; after them, if need be, one for the arbiter alone.
    feeds : tuple of dict
        Descriptions of their inputs, for children.
    original, rewritten : Results or None
        From the runtime; None where it has no kernels for the model.
    reordered : dict of int to dict
        By index of the case: what the original gave for its samples in another order, put back
        in theirs.
    arbitration : Arbitration or None
        The original's part of `truths`.
    truths : dict of int to Truths
        From the arbiter, by index of the case.
    runs : list of RunReport
    notes : list of str
    path : Path or None
        Of the original.
    """

    cases: list[Case] = field(default_factory=list)
    feeds: tuple[dict[str, Any], ...] = ()
    original: Results | None = None
    rewritten: Results | None = None
    reordered: dict[int, Tensors] = field(default_factory=dict)
    arbitration: Arbitration | None = None
    truths: dict[int, Truths] = field(default_factory=dict)
    runs: list[RunReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    path: Path | None = None

    def add_notes(self, notes: Sequence[str]) -> None:
        """Add notes, each once."""
        self.notes += [note for note in notes if note not in self.notes]

    @property
    def arbiter_case(self) -> Case | None:
        """The first case that the arbiter evaluated."""
        return next((self.cases[index] for index in self.truths), None)


def tensors_of(values: Mapping[str, object]) -> Tensors:
    """Return all tensors among some outputs, by name."""
    return {leaf: array for name, value in values.items() for leaf, array in tensors(name, value)}

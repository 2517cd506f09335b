"""How far one network has moved from another: information, never a verdict.

A swapped network is another function than the original. These figures say how different its
outputs and activations are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.finite import flaw_of
from normswap.plain import AsDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from normswap.inputs.signature import Port
    from normswap.runtime.session import Session

LEAST_SAMPLES = 50
"""From which on a share of samples says something."""

AT_ONCE = 1 << 13
"""Values that are summed at a time, few enough for a cache."""

BUDGET = 256 * 2**20
"""Bytes of tensors that are fetched at once, so that memory does not grow with the network."""


@dataclass(slots=True)
class Comparison:
    """Running sums of two tensors, in float64.

    Attributes
    ----------
    ours, theirs, product, difference : float
        Sums of squares of what changed, of the original, of their product and of their difference.
    agreed, samples : int
        In how many samples the largest value is at the same place, and of how many.
    places : int
        How many values were finite in both.
    """

    ours: float = 0.0
    theirs: float = 0.0
    product: float = 0.0
    difference: float = 0.0
    agreed: int = 0
    samples: int = 0
    places: int = 0

    def add(self, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> bool:
        """Take in more values, of places where both are finite; return whether all are."""
        a, b = ours.reshape(-1), theirs.reshape(-1)
        parts = (slice(start, start + AT_ONCE) for start in range(0, a.size, AT_ONCE))
        with np.errstate(invalid="ignore", over="ignore"):
            sums = sum((_sums(a[part], b[part]) for part in parts), np.zeros(4))
        places, is_finite = a.size, True
        known = np.ones(len(ours) if ours.ndim else 1, bool)
        if not np.isfinite(sums).all():  # to look at each value first would be slower
            finite = np.isfinite(ours) & np.isfinite(theirs)
            sums = _sums(ours[finite], theirs[finite])
            places, is_finite = int(finite.sum()), bool(finite.all())
            known = finite.all(axis=tuple(range(1, finite.ndim)))
        self.places += places
        self.ours += float(sums[0])
        self.theirs += float(sums[1])
        self.product += float(sums[2])
        self.difference += float(sums[3])
        if ours.ndim == 2 and ours.shape[1] > 1:
            agree = ours.argmax(axis=1) == theirs.argmax(axis=1)
            self.agreed += int(agree[known].sum())
            self.samples += int(known.sum())
        return is_finite

    def result(self, *, shares: bool = True) -> Drift:
        """Return the figures; shares of samples only if they are a person's own."""
        shares = shares and self.samples >= LEAST_SAMPLES
        length = math.sqrt(self.ours * self.theirs)
        return Drift(
            cosine=self.product / length if length else math.nan,
            snr=_decibels(self.theirs, self.difference) if self.places else math.nan,
            top1=self.agreed / self.samples if shares else None,
            samples=self.samples,
        )


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a tensor has moved.

    Attributes
    ----------
    cosine : float
        Of the angle between the tensors; 1 is no drift.
    snr : float
        Energy of the original beside that of the difference, in dB; infinite is no drift, NaN no
        value that is finite in both.
    top1 : float or None
        Share of samples whose largest value is at the same place, for class scores: of a person's
        own data, and enough of it to tell.
    samples : int
        How many samples that is a share of.
    """

    cosine: float
    snr: float
    top1: float | None = None
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Agreement(AsDict):
    """How many values of an output are as they were, of one that has no values in between.

    Attributes
    ----------
    same, values : int
        How many are the same, and of how many.
    """

    same: int
    values: int


@dataclass(frozen=True, slots=True)
class Outputs:
    """The outputs of a model by what can be told of them.

    Attributes
    ----------
    floats, others : tuple of str
        Tensors of floats; of integers, booleans or strings.
    left_out : dict of str to str
        Why nothing is told of what is no tensor.
    """

    floats: tuple[str, ...]
    others: tuple[str, ...]
    left_out: dict[str, str]

    @classmethod
    def of(cls, ports: Iterable[Port]) -> Outputs:
        """Divide outputs."""
        tensors: dict[bool, list[str]] = {True: [], False: []}
        left_out = {}
        for port in ports:
            if port.kind == "tensor":
                tensors[port.dtype.startswith(("float", "bfloat"))].append(port.name)
            else:
                left_out[port.name] = f"it is no tensor ({port.kind})"
        return cls(tuple(tensors[True]), tuple(tensors[False]), left_out)


@dataclass(frozen=True, slots=True)
class DriftReport(AsDict):
    """The drift of a network, by name of the tensor.

    Attributes
    ----------
    outputs, layers : dict of str to Drift
    notes : tuple of str
        What was not finite, and is left out.
    own : bool
        Whether it is on a person's own data; else on random inputs, which say nothing of what the
        network was trained for.
    agreement : dict of str to Agreement
        Of outputs of integers, booleans or strings, on enough samples of a person's own.
    left_out : dict of str to str
        The outputs of which nothing is told, and why.
    """

    outputs: dict[str, Drift] = field(default_factory=dict)
    layers: dict[str, Drift] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    own: bool = False
    agreement: dict[str, Agreement] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def measure_drift(
    original: Session,
    swapped: Session,
    batches: Iterable[Mapping[str, Any]],
    outputs: Outputs,
    layers: Sequence[str],
    progress: Callable[[str], None],
    *,
    sizes: Mapping[str, int] | None = None,
    own: bool = False,
) -> DriftReport:
    """Run two networks on the same data and compare their tensors.

    Parameters
    ----------
    original, swapped : Session
        With `layers` tapped.
    batches : iterable of feeds
    outputs : Outputs
    layers : sequence of str
        Names of tensors that both networks have.
    progress : callable
        Told what is being done.
    sizes : Mapping[str, int], optional
        Bytes of a tensor for one sample, where they are known.
    own : bool
        Whether the data is a person's own, and no noise.
    """
    names = [*outputs.floats, *layers, *(outputs.others if own else ())]
    found = {name: Comparison() for name in names}
    same = {name: [0, 0] for name in outputs.others}
    samples = 0
    notes: dict[str, str] = {}  # the first of each tensor
    for number, feeds in enumerate(batches, start=1):
        progress(f"measuring the drift, batch {number}")
        samples += samples_of(feeds)
        for chunk in chunks(names, sizes or {}, samples_of(feeds)):
            theirs = original.run(feeds, chunk, part=chunk)
            ours = swapped.run(feeds, chunk, part=chunk)
            for name in chunk:
                if name in same and ours[name].shape == theirs[name].shape:
                    same[name][0] += int((ours[name] == theirs[name]).sum())
                    same[name][1] += ours[name].size
                elif ours[name].dtype.kind in "fV" and ours[name].shape == theirs[name].shape:
                    if found[name].add(ours[name], theirs[name]):
                        continue
                    for which, run in (("original", theirs), ("swapped", ours)):
                        what = f"{name} of the {which} network"
                        flaw = None if what in notes else flaw_of(what, run[name])
                        if flaw is not None:
                            notes[what] = f"{flaw}; the drift is measured on the other elements"
    why = "its values are not floats, and the inputs are random"
    if own:
        why = f"its values are not floats, and there are fewer than {LEAST_SAMPLES} samples"
    told = own and samples >= LEAST_SAMPLES
    return DriftReport(
        {name: found[name].result(shares=own) for name in outputs.floats},
        {name: found[name].result(shares=own) for name in layers},
        tuple(notes.values()),
        own,
        {name: Agreement(*counts) for name, counts in same.items()} if told else {},
        outputs.left_out | ({} if told else dict.fromkeys(outputs.others, why)),
    )


def chunks(names: Sequence[str], sizes: Mapping[str, int], samples: int) -> list[list[str]]:
    """Divide tensors into lots that fit the budget; of unknown ones, sixteen do."""
    lots: list[list[str]] = []
    room = 0.0
    for name in names:
        size = sizes.get(name, BUDGET / 16 / samples) * samples
        if not lots or size > room:
            lots.append([])
            room = BUDGET
        lots[-1].append(name)
        room -= size
    return lots


def samples_of(feeds: Mapping[str, Any]) -> int:
    """Return how many samples are in a batch."""
    return max((len(value) for value in feeds.values() if np.ndim(value)), default=1)


def _sums(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the sums of squares of two vectors, that of their products and of differences."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    apart = a - b
    return np.array([a @ a, b @ b, a @ b, apart @ apart])


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf

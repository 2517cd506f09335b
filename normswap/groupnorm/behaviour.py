"""How a swapped network behaves: what it has moved to, and in batches. Information, no verdict.

That it is the network it should be is what the check of a swap shows. How far that is from the
original, and that a sample gives the same whatever its batch, is what one swaps for, so both
networks are run in onnxruntime to tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.check import elements
from normswap.dtypes import NUMPY_DTYPES, is_floating
from normswap.errors import RunError, RunTimeoutError
from normswap.groupnorm.drift import DriftReport, Outputs, chunks, measure_drift, samples_of
from normswap.groupnorm.feeds import make_cases
from normswap.groupnorm.side_by_side import session_of
from normswap.inputs.dims import RequestedSizes, batch_is_free
from normswap.inputs.signature import inferred, read_signature
from normswap.runtime.failures import ProviderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from normswap.check.options import CheckOptions
    from normswap.groupnorm.layer import Layer
    from normswap.groupnorm.plan import SwapPlan
    from normswap.inputs.random import Case
    from normswap.inputs.signature import Signature
    from normswap.progress import Progress
    from normswap.runtime.session import Session


@dataclass(frozen=True, slots=True)
class Invariance:
    """How far an output of a sample depends on the other samples of its batch.

    Attributes
    ----------
    output : str
    max_error : float
        Largest distance of what a sample gives alone from what it gives in a batch; rounding,
        where batches share nothing.
    largest : float
        The largest value of the output.
    """

    output: str
    max_error: float
    largest: float


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What is told of a swapped network.

    Attributes
    ----------
    drift : DriftReport
    invariance : tuple of Invariance
        By output; none where nothing could be told.
    notes : tuple of str
    """

    drift: DriftReport
    invariance: tuple[Invariance, ...]
    notes: tuple[str, ...]


def observe(
    original: Path,
    swapped: Path,
    plan: SwapPlan,
    options: CheckOptions,
    *,
    batches: Iterable[Mapping[str, Any]] | None = None,
    progress: Progress,
) -> Behaviour:
    """Run both networks.

    Parameters
    ----------
    original, swapped : Path
    plan : SwapPlan
        By which `swapped` was made from `original`.
    options : CheckOptions
        What they are run on.
    batches : iterable of feeds, optional
        Data; random inputs if left out.
    progress : callable
    """
    signature = read_signature(original)
    layers = plan.visible_layers
    outputs = Outputs.of(signature.outputs)
    names = [*outputs.floats, *(layer.y for layer in layers)]

    def lot(case: Case) -> list[str]:
        """Return what the drift asks for first, so that it is loaded only once."""
        sizes = _sizes(signature, layers, case)
        return next(iter(chunks(names, sizes, samples_of(case.feeds))), [])

    # Inputs of one kind are enough for what is no verdict.
    plainly = replace(options, depth="quick")
    notes: list[str] = []
    drift = DriftReport()
    invariance: tuple[Invariance, ...] = ()
    try:
        with session_of(swapped, "swapped", options, layers) as after:
            try:
                with session_of(original, "original", options, layers) as before:
                    cases = make_cases(
                        before, signature, plainly, batches, progress, notes, part=lot
                    )
                    drift = measure_drift(
                        before,
                        after,
                        batches if batches is not None else [case.feeds for case in cases],
                        outputs,
                        [layer.y for layer in layers],
                        progress,
                        sizes=_sizes(signature, layers, cases[0]),
                        own=batches is not None,
                    )
                    notes += before.notes
            except (RunTimeoutError, ProviderError):
                raise
            except RunError as error:
                notes.append(f"the drift from the original was not measured: {error}")
                cases = make_cases(after, signature, plainly, batches, progress, notes, part=lot)
            part = lot(cases[0])
            invariance = _invariance(after, cases[0], signature, options, notes, part)
            notes += [*after.notes, *drift.notes]
    except (RunTimeoutError, ProviderError):
        raise
    except RunError as error:
        notes.append(f"drift and batch invariance were not measured: {error}")
    return Behaviour(drift, invariance, tuple(dict.fromkeys(notes)))


def _sizes(signature: Signature, layers: Sequence[Layer], case: Case) -> dict[str, int]:
    """Return how many bytes a layer's result has for one sample, as far as that is known."""
    found = inferred(signature.structure, case.shapes())
    shapes = {} if found is None else found[1]
    samples = samples_of(case.feeds)
    return {
        layer.y: math.prod(shapes[layer.y]) * NUMPY_DTYPES[layer.data_type].itemsize // samples
        for layer in layers
        if 0 not in shapes.get(layer.y, (0,))
    }


def _invariance(
    session: Session,
    case: Case,
    signature: Signature,
    options: CheckOptions,
    notes: list[str],
    part: Sequence[str],
) -> tuple[Invariance, ...]:
    """Run the first sample without its batch, or with another batch where the size is fixed."""
    feeds = case.feeds
    arrays = {name: value for name, value in feeds.items() if isinstance(value, np.ndarray)}
    size = max((len(a) for a in arrays.values() if a.ndim), default=0)
    if size < 2:
        notes.append("batch invariance was not tested: the batch has one sample only")
        return ()
    requested = RequestedSizes(options.input_shapes, {})
    other = (lambda value: value[:1]) if batch_is_free(signature, requested) else _others
    alone = {
        name: other(value) if getattr(value, "ndim", 0) and len(value) == size else value
        for name, value in feeds.items()
    }
    try:
        whole, again = (_tensors(session.run(each, part=part)) for each in (feeds, alone))
    except RunError as error:
        notes.append(f"batch invariance was not tested: {error}")
        return ()
    return tuple(
        Invariance(name, _distance(again[name][:1], array[:1]), _largest(array))
        for name, array in whole.items()
        if is_floating(array.dtype) and name in again and array.ndim and len(array) == size
    )


def _others(value: np.ndarray) -> np.ndarray:
    """Return a batch with the same first sample and others after it."""
    other = value[::-1].copy() if value.dtype.kind not in "fV" else value * value.dtype.type(2)
    other[0] = value[0]
    return other


def _tensors(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return all tensors among some outputs, by name."""
    return {
        leaf: array
        for name, value in outputs.items()
        for leaf, array in elements.tensors(name, value)
    }


def _largest(array: np.ndarray) -> float:
    wide = array.astype(np.float64)
    return float(np.abs(wide[np.isfinite(wide)]).max(initial=0.0))


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference; infinite where only one is finite, or the shapes differ."""
    if one.shape != other.shape:
        return math.inf
    a, b = one.astype(np.float64), other.astype(np.float64)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return math.inf
    finite = np.isfinite(a)
    return float(np.abs(a - b)[finite].max(initial=0.0))

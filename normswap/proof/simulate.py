"""A whole model once in float64, cropped small: what may be equal.

Where names and operators are others, equal values are what is left to tell that two tensors may be
the same function: those of a few elements and their moments are a tensor's signature, as in the
equivalence checkers of circuits (ABC's ``cec``). A signature proposes, and only a region's
judgement decides (:mod:`normswap.proof.judge`).

Weights are read as they are needed and let go, and so is what nodes make.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.proof.evaluate import widened
from normswap.proof.turns import NodeEvaluation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from normswap.proof.budget import Budget
    from normswap.proof.numbering import Side

_ELEMENTS = 64  # of a signature
_APART = 1e-2  # of the largest element, by which those of two tensors that may be equal differ


@dataclass(slots=True)
class Simulated:
    """What a model made of some inputs.

    Attributes
    ----------
    signatures : dict of int to numpy.ndarray
        By tensor of floats: elements, and behind them mean and root mean square.
    shapes : dict of int to tuple of int
        The shapes of these.
    outputs : dict of str to numpy.ndarray
        As far as they are known.
    """

    signatures: dict[int, np.ndarray]
    shapes: dict[int, tuple[int, ...]]
    outputs: dict[str, np.ndarray]


def simulate(
    side: Side,
    feeds: Mapping[str, Any],
    *,
    budget: Budget,
    sample: int = 0,
    instead: Mapping[int, Callable[[Mapping[int, Any]], Any]] = MappingProxyType({}),
    kept: Collection[int] = (),
    elements: int = _ELEMENTS,
) -> Simulated:
    """Evaluate a model.

    Parameters
    ----------
    side : Side
    feeds : mapping of str to numpy.ndarray
    budget : Budget
        What is not evaluated until that is over, and what can't be, stays unknown, and all that
        depends on it.
    sample : int
        As of :func:`normswap.proof.evaluate.evaluate`.
    instead : mapping of int to callable
        What takes the place of tensors, of all that is known then; of None nothing is known.
    kept : collection of int
        What these need to know.
    elements : int
        Of a tensor that its signature has.
    """
    flat = side.flat
    known = {flat.inputs[name]: widened(v) for name, v in feeds.items() if name in flat.inputs}
    found = Simulated({}, {}, {})
    turns = NodeEvaluation(
        side,
        known,
        lambda number, value: _sign(found, number, value, elements),
        budget,
        sample=sample,
        instead=instead,
        kept=kept,
    )
    turns.run()
    for name, number in flat.outputs:
        if isinstance(known.get(number), np.ndarray):
            found.outputs[name] = known[number]
    return found


def _sign(found: Simulated, number: int, value: Any, elements: int) -> None:
    signature = signature_of(value, elements)
    if signature is not None:
        found.signatures[number] = signature
        found.shapes[number] = value.shape


def signature_of(value: Any, elements: int = _ELEMENTS) -> np.ndarray | None:
    """Return elements of a tensor, and behind them its mean and root mean square.

    Parameters
    ----------
    value : numpy.ndarray
        In float64; what else there is has none.
    elements : int
        How many; all of a smaller tensor are among them.

    Returns
    -------
    numpy.ndarray or None
        None where not all of that is finite, or there is nothing.
    """
    if not isinstance(value, np.ndarray) or value.dtype != np.float64 or not value.size:
        return None
    flat = value.reshape(-1)
    # Spread over all axes, in no step with any of them: Knuth's multiplicative hashing.
    places = np.arange(elements, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(flat.size)
    moments = [flat.mean(), np.sqrt(np.square(flat).mean())]
    signature = np.concatenate([flat[places.astype(np.int64)], moments])
    return signature if np.isfinite(signature).all() else None


class Alike:
    """Tensors of the original that made the same of some inputs as those of another model did.

    Parameters
    ----------
    original, rewritten : Simulated
        Of the same inputs.
    """

    def __init__(self, original: Simulated, rewritten: Simulated) -> None:
        self._rewritten = rewritten
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for number, shape in original.shapes.items():
            by_shape.setdefault(shape, []).append(number)
        self._groups = {
            shape: (np.array(numbers), np.stack([original.signatures[n] for n in numbers]))
            for shape, numbers in by_shape.items()
        }

    def of(self, number: int, most: int) -> list[int]:
        """Return the original's tensors that one of the rewritten model may be, nearest first."""
        signature = self._rewritten.signatures.get(number)
        group = self._groups.get(self._rewritten.shapes.get(number, ()))
        if signature is None or group is None:
            return []
        numbers, signatures = group
        apart = np.abs(signatures - signature).max(axis=1)
        limit = _APART * np.maximum(np.abs(signatures).max(axis=1), np.abs(signature).max())
        order = np.argsort(apart, kind="stable")
        return [int(numbers[i]) for i in order[:most] if apart[i] <= limit[i]]


def taken(
    side: Side, feeds: Iterable[Mapping[str, Any]], budget: Budget
) -> tuple[Mapping[str, Any], Simulated]:
    """Return the first inputs of which a model makes all its outputs, and what it makes of them.

    Where there are none, those of which it makes the most.
    """
    best: tuple[Mapping[str, Any], Simulated] = ({}, Simulated({}, {}, {}))
    for values in feeds:
        made = simulate(side, values, budget=budget)
        if len(made.signatures) > len(best[1].signatures):
            best = values, made
        if len(made.outputs) == len(dict(side.flat.outputs)):
            return values, made
    return best

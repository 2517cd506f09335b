"""How far what a region makes moves where its constants are rounded: the measure of a deviation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from normswap.dtypes import NUMPY_DTYPES, is_float
from normswap.proof.evaluate import evaluate, folds, numbers_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.proof.regions import RegionPair

SAMPLES = 2
_MOVED = 8.0  # roundoffs of what a region makes: more is no rounding of a single number


class Movement:
    """Moves the constants of a region that both models don't have in common.

    Parameters
    ----------
    pair : RegionPair

    Attributes
    ----------
    is_any : bool
        Whether there are such constants, or numbers among the attributes.
    of_weights : bool
        Whether there are any with axes.
    """

    def __init__(self, pair: RegionPair) -> None:
        self._pair = pair
        changed = self._changed()
        self._numbers = numbers_of(pair.of_a.nodes) ^ numbers_of(pair.of_b.nodes)
        self.is_any = bool(changed) or bool(self._numbers)
        self.of_weights = any(len(shape) > 1 and math.prod(shape) > 1 for shape in changed.values())
        # Constants of a single number, as attributes are, and of the rewritten model alone.
        self._single = frozenset(
            number
            for number in pair.of_b.constants
            if math.prod(changed.get(number, (2,))) == 1 and is_float(pair.b.flat.types[number])
        )
        stored = [NUMPY_DTYPES[pair.b.flat.types[number]] for number in self._single]
        units = [float(ml_dtypes.finfo(kind).eps) / 2 for kind in stored]
        self._roundoff = _MOVED * max([*units, 2.0**-24])

    def _changed(self) -> dict[Any, tuple[int, ...]]:
        """Return the shapes of the constants that only one of the two reads; b's by number."""
        pair = self._pair
        sides = ((pair.a, pair.of_a), (pair.b, pair.of_b))
        kinds = [{side.classes[n] for n in cone.constants} for side, cone in sides]
        return {
            n if side is pair.b else (n,): side.sizes[0].shapes.get(n, ())
            for (side, cone), others in zip(sides, kinds[::-1], strict=True)
            for n in cone.constants
            if side.classes[n] not in others
        }

    def of(
        self,
        of_a: Mapping[int, Any],
        of_b: Mapping[int, Any],
        made: tuple[np.ndarray, np.ndarray],
        samples: int,
    ) -> list[np.ndarray]:
        """Return what the original's region may make as well, its constants rounded otherwise.

        Parameters
        ----------
        of_a, of_b : mapping of int to numpy.ndarray
            The values of the frontier, by the tensors of either model.
        made : (numpy.ndarray, numpy.ndarray)
            What the two regions make of these.
        samples : int
            How often weights are moved.

        Raises
        ------
        UnjudgedError
            If a region can't be evaluated.
        """
        pair, (a, b), numbers = self._pair, made, self._numbers
        chosen = range(1, samples + 1)
        if pair.b.narrow:  # it is its constants that were rounded, to its own type
            moved = [
                a + evaluate(pair.b, pair.of_b, of_b, sample=n, numbers=numbers) - b for n in chosen
            ]
        else:
            moved = [evaluate(pair.a, pair.of_a, of_a, sample=n, numbers=numbers) for n in chosen]
        # Numbers among attributes are rounded constants too, where they were made anew. They move
        # with the weights: alone they may move next to nothing, and would only dilute the measure.
        steps = []
        if self._single or numbers & numbers_of(pair.of_b.nodes):
            most = self._roundoff * float(np.abs(b).max(initial=0.0, where=np.isfinite(b)))
            for sample in range(1, 2 * SAMPLES + 1):
                other = evaluate(
                    pair.b, pair.of_b, of_b, sample=sample, moving=self._single, numbers=numbers
                )
                steps.append(np.clip(other - b, -most, most))
        if steps:
            whole, count = moved or [a], max(len(moved), len(steps))
            moved = [whole[n % len(whole)] + steps[n % len(steps)] for n in range(count)]
        # What constants alone make, another tool may have made in their own types, and stored.
        made_of_constants = folds(pair.a, pair.of_a), folds(pair.b, pair.of_b)
        if made_of_constants == (True, False):
            moved.append(evaluate(pair.a, pair.of_a, of_a, own=True))
        if made_of_constants == (False, True):
            moved.append(a + evaluate(pair.b, pair.of_b, of_b, own=True) - b)
        return moved

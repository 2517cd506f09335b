"""Least squares of all parameters at once, to the outputs of the network: Gauss-Newton.

With J what the outputs do when the parameters move, linearized where they are::

    minimize ||wanted - outputs - J delta||^2

by conjugate gradients (CGLS: Bjorck, "Numerical Methods for Least Squares Problems", 1996, section
7.4), which asks for products with J and its transpose alone. Stopped after some rounds it has
found what the data is sure of, and has left the rest where it was, as a ridge does (Hanke,
"Conjugate Gradient Type Methods for Ill-Posed Problems", 1995): how many rounds is chosen like
lambda is, by what is held out. Nothing is drawn at random.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    Vector = npt.NDArray[np.float64]


def solutions(
    push: Callable[[Vector], float],
    pull: Callable[[float], Vector],
    rounds: Sequence[int],
) -> Iterator[tuple[int, Vector]]:
    """Yield what is found after some rounds of conjugate gradients.

    Parameters
    ----------
    push : callable
        Takes a change p of the parameters, to the energy of J p.
    pull : callable
        Takes t off what is missing, t times the J p of the last push, and returns the product of
        the transpose of J with what is left.
    rounds : sequence of int
        Rising: after how many.

    Yields
    ------
    int, (N,) ndarray
    """
    slope = pull(0.0)
    along, found = slope, np.zeros_like(slope)
    energy = _energy(slope)
    for number in range(1, rounds[-1] + 1):
        length = push(along)
        if not (0 < length < np.inf and 0 < energy < np.inf):  # met, or of no use
            return
        step = energy / length
        found = found + step * along
        if number in rounds:
            yield number, found
        if number < rounds[-1]:
            slope = pull(step)
            before, energy = energy, _energy(slope)
            along = slope + energy / before * along


def _energy(vector: Vector) -> float:
    """Return the sum of squares; a dot product would wake BLAS' threads, which then wait busily."""
    return float(np.square(vector).sum())

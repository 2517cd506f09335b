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
    push: Callable[[Vector], Vector],
    pull: Callable[[Vector], Vector],
    residual: Vector,
    rounds: Sequence[int],
) -> Iterator[tuple[int, Vector]]:
    """Yield what is found after some rounds of conjugate gradients.

    Parameters
    ----------
    push, pull : callable
        Products with J and its transpose.
    residual : (M,) ndarray
        What is wanted, less what there is.
    rounds : sequence of int
        Rising: after how many.

    Yields
    ------
    int, (N,) ndarray
    """
    left = residual
    slope = pull(left)
    along, found = slope, np.zeros_like(slope)
    energy = float(slope @ slope)
    for number in range(1, rounds[-1] + 1):
        seen = push(along)
        length = float(seen @ seen)
        if not (0 < length < np.inf and 0 < energy < np.inf):  # met, or of no use
            return
        step = energy / length
        found = found + step * along
        left = left - step * seen
        if number in rounds:
            yield number, found
        if number < rounds[-1]:
            slope = pull(left)
            before, energy = energy, float(slope @ slope)
            along = slope + energy / before * along

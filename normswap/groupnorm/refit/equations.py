"""Least squares by normal equations, accumulated batch by batch.

What a weight is to be changed by, so that a layer gives what it should::

    minimize ||residual - columns^T delta||^2 + lam * d * ||delta||^2,    d = mean(diag(gram))

    (gram + lam * d * I) delta = moment,    gram = columns columns^T,  moment = columns residual^T

with what is missing of each result as the residual, which is ridge regression towards the present
weight (Hoerl and Kennedy, "Ridge Regression", Technometrics 1970). Only the two sums are kept, in
float64: memory does not grow with the data. A bias is one more column, of ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]


class NormalEquations:
    """The sums of one problem, which may be of several groups that have nothing in common.

    Parameters
    ----------
    groups, size, results : int
        G, K and C of the matrix ``(G, K, C)`` that is fitted.
    bias : bool
        Whether a bias ``(G, C)`` is fitted with it.

    Attributes
    ----------
    energy, wanted : float
        Sums of the squares of all residuals, and of what the results should be.
    """

    def __init__(self, groups: int, size: int, results: int, *, bias: bool) -> None:
        self._bias = bias
        whole = size + bias
        self._gram = np.zeros((groups, whole, whole))
        self._moment = np.zeros((groups, whole, results))
        self.energy = self.wanted = 0.0

    def add(self, columns: Float64, residual: Float64, *, gain: float = 1.0) -> None:
        """Take in some samples.

        Parameters
        ----------
        columns : (G, K, R) ndarray
        residual : (G, C, R) ndarray
            What is wanted, less what there is.
        gain : float
            What the layer multiplies its bias by.
        """
        size = columns.shape[1]
        with np.errstate(invalid="ignore", over="ignore"):  # see is_finite
            self._gram[:, :size, :size] += columns @ columns.swapaxes(1, 2)
            self._moment[:, :size] += columns @ residual.swapaxes(1, 2)
            self.energy += float(np.square(residual).sum())
            if self._bias:
                sums = gain * columns.sum(axis=2)
                self._gram[:, size, :size] += sums
                self._gram[:, :size, size] += sums
                self._gram[:, size, size] += gain**2 * columns.shape[2]
                self._moment[:, size] += gain * residual.sum(axis=2)

    @property
    def is_finite(self) -> bool:
        """Whether nothing that came was infinite, NaN or too large to be squared."""
        return bool(np.isfinite(self._gram).all() and np.isfinite(self._moment).all())

    def left(self, delta: Float64, shift: Float64 | None) -> float:
        """Return the energy of the residuals that a solution of these or others leaves."""
        whole = delta if shift is None else np.concatenate([delta, shift[:, None]], axis=1)
        slope = self._gram @ whole
        slope -= 2 * self._moment
        return self.energy + float(np.vdot(whole, slope))

    def solve(self, lam: float) -> tuple[Float64, Float64 | None]:
        """Return what is to be added to the matrix ``(G, K, C)``, and to the bias ``(G, C)``.

        Parameters
        ----------
        lam : float
            Above 0; how much the present weight is held on to.
        """
        size = self._gram.shape[1]
        diagonal = np.einsum("gkk->g", self._gram) / size
        held = np.where(diagonal > 0, lam * diagonal, 1.0)  # of nothing, nothing follows
        whole = self._gram.copy()
        np.einsum("gkk->gk", whole)[...] += held[:, None]
        delta = np.linalg.solve(whole, self._moment).astype(np.float64, copy=False)
        return (delta[:, :-1], delta[:, -1]) if self._bias else (delta, None)

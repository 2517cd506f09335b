"""The affine of a normalization, fitted to the outputs of the network: Gauss-Newton by differences.

What a layer gives says nothing of what the layers behind it make of it. A scale and a bias are few
numbers, so what each does to the outputs can be seen by moving it::

    J[:, i] = (outputs(p + h * e_i) - outputs(p)) / h
    minimize ||wanted - outputs(p) - J delta||^2 + lam * d * ||delta||^2

which are normal equations again. That takes a run of the rest of the network for each number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.groupnorm.refit.equations import NormalEquations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from normswap.groupnorm.refit.networks import Problem

    Tensors = Mapping[str, npt.NDArray[Any]]

STEP = 0.02
"""Of a move, beside the size of the scale."""


def outputs_equations(
    problem: Problem,
    runs: Iterable[Callable[[Tensors], Tensors]],
    wanted: Iterable[Tensors],
    outputs: Sequence[tuple[str, str, float]],
) -> NormalEquations:
    """Return the normal equations of what the numbers of an affine do to the outputs.

    Parameters
    ----------
    problem : Problem
        Of an affine.
    runs : iterable of callable
        Of every batch: from other parameters to the tensors that are judged.
    wanted : iterable of dict of str to ndarray
        The teacher's, of every batch.
    outputs : sequence of (str, str, float)
        The student's tensors, the teacher's, and what each is multiplied by.
    """
    step = _step(problem)
    count = sum(parameter.values.size for parameter in problem.parameters)
    sums = NormalEquations(1, count, 1, bias=False)
    for run, target in zip(runs, wanted, strict=True):
        base = run({})
        residual = _joined((target[theirs], base[ours], by) for ours, theirs, by in outputs)
        columns = np.empty((count, residual.size))
        row = 0
        for parameter in problem.parameters:
            for place in range(parameter.values.size):
                there = run({parameter.name: parameter.moved(_one(parameter.values, place, step))})
                moved = _joined((there[ours], base[ours], by / step) for ours, _, by in outputs)
                columns[row] = moved
                row += 1
        sums.add(columns[None], residual[None, None])
    return sums


def changes_of(problem: Problem, delta: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return a solution ``(1, K, 1)`` as what is added to each parameter."""
    sizes = [parameter.values.size for parameter in problem.parameters]
    parts = np.split(delta.reshape(-1), np.cumsum(sizes)[:-1])
    return {p.name: part for p, part in zip(problem.parameters, parts, strict=True)}


def _step(problem: Problem) -> float:
    size = float(np.abs(problem.weight.values.astype(np.float64)).mean())
    return STEP * (size or 1.0)


def _one(values: npt.NDArray[Any], place: int, step: float) -> npt.NDArray[np.float64]:
    change = np.zeros(values.size)
    change[place] = step
    return change


def _joined(
    pairs: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any], float]],
) -> npt.NDArray[np.float64]:
    """Return the differences of all pairs as one vector."""
    differences = [(a.astype(np.float64) - b).reshape(-1) * by for a, b, by in pairs]
    return np.concatenate(differences)

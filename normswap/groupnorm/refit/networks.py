"""The two networks of a refit: the teacher as it is, the student with what is fitted as inputs.

What is an input of the student can be another value in every run of one session, and is read in
bodies too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import round_to

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from normswap.groupnorm.normalize import Place
    from normswap.groupnorm.refit.layers import Constant
    from normswap.groupnorm.refit.products import Product
    from normswap.groupnorm.refit.tangent import Route


@dataclass(slots=True)
class FittedParameter:
    """A constant that is fitted, as an input of the student.

    Attributes
    ----------
    name : str
    data_type : int
    values : ndarray
        What it is by now, in its own type.
    constant : Constant or None
        Where it is written; None for an affine's that is the layer's own.
    """

    name: str
    data_type: int
    values: npt.NDArray[Any]
    constant: Constant | None = None

    def moved(self, change: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """Return what it is with a change, rounded to its type."""
        wide = self.values.astype(np.float64) + change.reshape(self.values.shape)
        with np.errstate(over="ignore", invalid="ignore"):  # a candidate, which is judged
            return round_to(wide, self.data_type)


@dataclass(frozen=True, slots=True)
class LayerPair:
    """A layer in both networks.

    Attributes
    ----------
    product : Product
    x, y : str
        The student's tensors.
    wanted : str
        The teacher's, which y is to be.
    by_turns : bool
        Whether these are records of what is in a body.
    given : str
        The teacher's x, where that was asked for.
    """

    product: Product
    x: str
    y: str
    wanted: str
    by_turns: bool = False
    given: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is fitted at once: one weight, with all layers that have it.

    Attributes
    ----------
    layer : str
        What to call it.
    uses : tuple of LayerPair
    weight, bias : FittedParameter, and None
    affine : tuple of Place
        The layers whose affine this is; empty for a weight.
    """

    layer: str
    uses: tuple[LayerPair, ...]
    weight: FittedParameter
    bias: FittedParameter | None
    affine: tuple[Place, ...] = ()

    @property
    def parameters(self) -> tuple[FittedParameter, ...]:
        """What is fitted."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @property
    def is_hidden(self) -> bool:
        """Whether it is in bodies only, so that a fit of all layers at once does not reach it."""
        return all(use.by_turns for use in self.uses)


@dataclass(frozen=True, slots=True)
class TappedNetwork:
    """One of the two networks.

    Attributes
    ----------
    path : Path
    taps : dict of str to int
        Tensors that are asked for, and their types.
    frontiers : list of dict of str to int, or None
        See :meth:`normswap.groupnorm.levels.Order.frontiers`.
    ends : tuple of str
        The tensors that a fit is judged by, in the order of the outputs.
    """

    path: Path
    taps: dict[str, int]
    frontiers: list[dict[str, int]] | None
    ends: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Both networks, and what is fitted.

    Attributes
    ----------
    teacher, student : TappedNetwork
    outputs : tuple of str
        The outputs of which `ends` is what a fit is judged by.
    problems : list of Problem
    levels : list of list of int
        Their numbers, in the order in which they are solved.
    kept : dict of str to str
        Layers that can't be fitted, and why.
    route : Route
        From all that is fitted to the ends of the student.
    """

    teacher: TappedNetwork
    student: TappedNetwork
    outputs: tuple[str, ...]
    problems: list[Problem]
    levels: list[list[int]]
    kept: dict[str, str]
    route: Route

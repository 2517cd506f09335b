"""What is asked of a swap: what becomes a group normalization, and in which form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from normswap.groupnorm.policy import GroupPolicy
from normswap.groupnorm.words import AUTO

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Timings:
    """What the forms of a layer took when they were run here.

    Attributes
    ----------
    shape : tuple of int
        Of x in these runs.
    seconds : Mapping[str, float]
        By form: the shortest run of a small network around the layer, less the network itself.
    """

    shape: tuple[int, ...]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class FittedAffine:
    """A scale and bias that take the place of a layer's own; see the calibration.

    Attributes
    ----------
    scale, bias : (C,) ndarray of float64, or None
        None where the layer's own stays, or the fitted one is in the model.
    num_groups : int or None
        A number of groups in place of the policy's.
    """

    scale: npt.NDArray[np.float64] | None = None
    bias: npt.NDArray[np.float64] | None = None
    num_groups: int | None = None


@dataclass(frozen=True, slots=True)
class SwapOptions:
    """What is swapped, and how.

    Attributes
    ----------
    policy : GroupPolicy
    form : str
        ``"auto"``, ``"fastest"`` or the name of a form.
    provider : str
        Execution provider that the model is for.
    threads : int or None
        Threads that it will have on a CPU; None means as many as this machine has.
    epsilon : float or None
        None keeps each layer's own.
    keep_scale, keep_bias : bool
        Whether a layer's scale and B become the affine of the new one.
    include, exclude : tuple of str
        Patterns (``*`` and ``?``) for the names of nodes and of their input and output tensors.
        Without `include`, all nodes are included; `exclude` wins.
    only_kept : bool
        Swap only what a fold can't remove.
    absorb : bool
        Whether constants beside a layer are absorbed into its affine; see
        :mod:`normswap.groupnorm.neighbours`.
    affines : Mapping[(str, str), FittedAffine]
        By the path of the layer's graph and the name of its output.
    normalize : bool
        Whether a layer's statistics are moved into the operators before it, so that its group
        normalization gets the normalized tensor; see :mod:`normswap.groupnorm.normalize`.
    regroup : bool
        Whether channels are permuted so that each group keeps its statistics as constant as
        possible; see
        :mod:`normswap.groupnorm.regroup`.
    """

    policy: GroupPolicy = field(default_factory=GroupPolicy)
    form: str = AUTO
    provider: str = "cpu"
    threads: int | None = None
    epsilon: float | None = None
    keep_scale: bool = True
    keep_bias: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    only_kept: bool = False
    absorb: bool = True
    affines: Mapping[tuple[str, str], FittedAffine] = field(default_factory=dict)
    normalize: bool = True
    regroup: bool = False

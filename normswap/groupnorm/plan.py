"""What a swap will do: every BatchNormalization once, swapped or kept, with the reason.

A plan is data: names and numbers, no arrays and no nodes. It can be printed, compared and
serialized, and that is what a dry run shows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normswap.graph.normalization import Site
    from normswap.graph.reasons import Reason
    from normswap.groupnorm.layer import Layer
    from normswap.groupnorm.options import SwapOptions, Timings


@dataclass(frozen=True, slots=True)
class Swap:
    """A BatchNormalization that becomes a group normalization.

    Attributes
    ----------
    site : Site
    key : int
        Number of the node among all nodes of the model.
    num_groups : int
    epsilon : float
    scale, bias : bool
        Whether the node's scale and B are kept as the affine.
    form : str
        Which form of :mod:`normswap.groupnorm.forms` is built.
    why : str
        Why that one.
    activation : str
        Of the nodes behind it, what the form takes along; empty where it takes none.
    absorbed : tuple of Site
        The neighbours whose constants are in the layer's scale, bias and epsilon
        (:mod:`normswap.groupnorm.neighbours`), in the order of the graph.
    fused : tuple of int
        Numbers of all nodes that go with it: these neighbours, and those of the activation.
    timings : Timings or None
        What the forms took, where they were measured.
    """

    site: Site
    key: int
    num_groups: int
    epsilon: float
    scale: bool
    bias: bool
    form: str
    why: str
    activation: str = ""
    absorbed: tuple[Site, ...] = ()
    fused: tuple[int, ...] = ()
    timings: Timings | None = None


@dataclass(frozen=True, slots=True)
class Untouched:
    """A BatchNormalization that stays.

    Attributes
    ----------
    site : Site
    reason : Reason
        Why.
    detail : str
        The same in words, with what is not in the reason.
    """

    site: Site
    reason: Reason
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "reason": self.reason.value}


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """What a swap will do to one model.

    Attributes
    ----------
    fingerprint : str
        Of the model that was planned for, see :meth:`normswap.model.Model.fingerprint`.
    options : SwapOptions
        By which it was made.
    swaps : tuple of Swap
        In the order of the graph.
    untouched : tuple of Untouched
    layers : tuple of Layer
        One for each swap. They hold tensors of the model that was planned for, and ride along for
        :func:`normswap.groupnorm.apply.apply_swaps`.
    """

    fingerprint: str
    options: SwapOptions = field(repr=False, compare=False)
    swaps: tuple[Swap, ...]
    untouched: tuple[Untouched, ...] = ()
    layers: tuple[Layer, ...] = field(default=(), repr=False, compare=False)

    @property
    def total(self) -> int:
        """How many BatchNormalizations the model has."""
        return len(self.swaps) + len(self.untouched) + self.absorbed_batchnorms

    @property
    def absorbed_batchnorms(self) -> int:
        """How many of them are no layer of their own any more, but in the affine of another."""
        sites = [site for swap in self.swaps for site in swap.absorbed]
        return sum(site.op == "BatchNormalization" for site in sites)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {
            "swaps": [asdict(swap) for swap in self.swaps],
            "kept": [entry.to_dict() for entry in self.untouched],
        }

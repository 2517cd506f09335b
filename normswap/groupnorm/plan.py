"""What a swap will do: every BatchNormalization once, swapped or kept, with the reason.

A plan is data: names, numbers and the constants of affines, no tensors and no nodes of a model. So
it outlives the model that it was made for, can be changed (:func:`dataclasses.replace`), and is
what a dry run shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from normswap.groupnorm.forms import FORMS
from normswap.plain import AsDict, called

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.folding.plan import Step
    from normswap.graph.normalization import Site
    from normswap.graph.reasons import Reason
    from normswap.groupnorm.fusion import Fusible
    from normswap.groupnorm.layer import Layer
    from normswap.groupnorm.options import SwapOptions, Timings


@dataclass(frozen=True, slots=True)
class Statistics:
    """Where the mean and variance of a BatchNormalization went, before it was swapped.

    Attributes
    ----------
    route : tuple of Step
        The operators before it that took them in, and those on the way; none where they are left
        out, or are operators of their own.
    added_nodes : int
        How many operators there are for them: a Mul and an Add where there is no route.
    reason : Reason or None
        Why there is none; None too where a group of one channel forgets them.
    detail : str
        The same in words.
    """

    route: tuple[Step, ...] = ()
    added_nodes: int = 0
    reason: Reason | None = None
    detail: str = ""

    TOLD = ("normalized",)

    @property
    def normalized(self) -> bool:
        """Whether the group normalization is of the normalized tensor."""
        return bool(self.added_nodes) or not self.detail

    @property
    def absorbers(self) -> tuple[Step, ...]:
        """The operators that took them in."""
        return tuple(step for step in self.route if step.action == "absorb")


@dataclass(frozen=True, slots=True)
class Swap:
    """A BatchNormalization that becomes a group normalization.

    Attributes
    ----------
    site : Site
    key : int
        Number of the node among all nodes of the model.
    number : int or None
        The same before the model was normalized, where it was; several may have one then, which
        were one in a function.
    alone : Layer
        What takes the place of the node by itself, at its own x and y.
    joined : Layer
        The same with the constants of the neighbours that it absorbs.
    form : str
        Which form of :mod:`normswap.groupnorm.forms` is built.
    why : str
        Why that one.
    absorbed : tuple of Site
        The neighbours whose constants are in the scale, bias and epsilon of `joined`
        (:mod:`normswap.groupnorm.neighbours`), in the order of the graph.
    neighbours : tuple of int
        Numbers of their nodes.
    fusible : Fusible or None
        The activation behind it, for forms that take it along.
    timings : Timings or None
        What the forms took, where they were measured.
    parameters : tuple of str
        The tensors that are scale, B, mean and variance: the same for a layer that is used twice.
    statistics : Statistics or None
        Where mean and variance went; None where nobody asked for that.
    """

    TOLD = ("num_groups", "epsilon", "scale", "bias", "activation", "fused")

    site: Site
    key: int
    alone: Layer = field(repr=False, compare=False)
    joined: Layer = field(repr=False, compare=False)
    form: str = ""
    why: str = ""
    absorbed: tuple[Site, ...] = ()
    neighbours: tuple[int, ...] = field(default=(), repr=False)
    fusible: Fusible | None = field(default=None, repr=False)
    timings: Timings | None = None
    parameters: tuple[str, ...] = field(default=(), repr=False, compare=False)
    statistics: Statistics | None = None
    number: int | None = field(default=None, repr=False)

    @property
    def place(self) -> tuple[str, str]:
        """The path of its graph, and the name of its output."""
        return self.site.graph, self.site.output

    @property
    def layer(self) -> Layer:
        """What is built: `joined`, and the activation where the form takes it along."""
        fused = self._activation
        if fused is None:
            return self.joined
        return replace(self.joined, y=fused.y, activation=fused.activation)

    @property
    def num_groups(self) -> int:
        """Of what is built."""
        return self.joined.num_groups

    @property
    def epsilon(self) -> float:
        """Of what is built."""
        return self.joined.epsilon

    @property
    def scale(self) -> bool:
        """Whether the affine has a scale."""
        return self.joined.scale is not None

    @property
    def bias(self) -> bool:
        """Whether the affine has a bias."""
        return self.joined.bias is not None

    @property
    def activation(self) -> str:
        """Of the nodes behind it, what the form takes along; empty where it takes none."""
        fused = self._activation
        return "" if fused is None else fused.activation

    @property
    def fused(self) -> tuple[int, ...]:
        """Numbers of all nodes that go with it: the neighbours, and those of the activation."""
        fused = self._activation
        return self.neighbours if fused is None else (*self.neighbours, *fused.nodes)

    @property
    def _activation(self) -> Fusible | None:
        return self.fusible if FORMS[self.form].fuses_activation else None


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


@dataclass(frozen=True, slots=True)
class SwapPlan(AsDict):
    """What a swap will do to one model.

    Attributes
    ----------
    fingerprint : str
        Of the model that the plan is for, see :meth:`normswap.model.Model.fingerprint`.
    options : SwapOptions
        That it was made with.
    swaps : tuple of Swap
        In the order of the graph.
    untouched : tuple of Untouched
    unselected : dict of int to Untouched
        All that are not swapped, by the number of the node, including those absorbed into the
        affine of another.
    """

    fingerprint: str = field(repr=False)
    options: SwapOptions = field(repr=False, compare=False)
    swaps: tuple[Swap, ...]
    untouched: tuple[Untouched, ...] = field(default=(), metadata=called("kept"))
    unselected: Mapping[int, Untouched] = field(default_factory=dict, repr=False, compare=False)

    @property
    def visible_layers(self) -> list[Layer]:
        """Those of the main graph, whose tensors onnxruntime shows."""
        return [swap.layer for swap in self.swaps if not swap.site.graph]

    @property
    def total(self) -> int:
        """How many BatchNormalizations the model has."""
        return len(self.swaps) + len(self.untouched) + self.absorbed_batchnorms

    @property
    def absorbed_batchnorms(self) -> int:
        """How many of them are no layer of their own any more, but in the affine of another."""
        sites = [site for swap in self.swaps for site in swap.absorbed]
        return sum(site.op == "BatchNormalization" for site in sites)

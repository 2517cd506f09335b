"""How the numbers of a BatchNormalization look: what is broken, dead, or never trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from normswap.finite import flaw_of
from normswap.graph.batchnorm import epsilon_of
from normswap.graph.evaluate import constant_source
from normswap.graph.reasons import unless_blocked
from normswap.plain import AsDict

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from normswap.graph.network import Node

DEAD = 1e-6
"""A scale of this size or less, beside the layer's largest, is that of a channel without a use."""

SMALLEST_HALF = 2.0**-14
"""Below it a float16 is subnormal: it loses a digit with each step towards zero."""

PARAMETERS = ("scale", "B", "mean", "var")


NAMED = 5
"""Channels that are named, of those a clause is about."""

CLAUSES = {
    "invalid": "its variance is invalid (negative, NaN or infinite)",
    "subnormal": "its float16 variance is zero or subnormal",
    "untrained": "all means are 0 and all variances 1, as before training",
    "dead": "its scale is zero or nearly zero",
    "vanishing": "its variance is not larger than epsilon",
}
"""What is so, by the attribute of :class:`Health`."""


@dataclass(frozen=True, slots=True)
class Health(AsDict):
    """What is to be said of the scale and statistics of one BatchNormalization.

    Attributes
    ----------
    dead : tuple of int
        Channels whose scale is zero, or so near that nothing of the data is left: they are their B.
    vanishing : tuple of int
        Channels whose variance is not above epsilon, so that epsilon decides their scale: in
        training they hardly varied.
    invalid : tuple of int
        Channels whose variance is negative, or zero where epsilon is too.
    subnormal : tuple of int
        Channels whose variance, a float16, is zero or subnormal, so that its digits are lost.
    broken : tuple of str
        Parameters with a NaN or infinity, each in a clause that names the first.
    untrained : bool
        Whether all means are 0 and all variances 1: what a layer begins with.
    """

    channels: int
    dead: tuple[int, ...] = ()
    vanishing: tuple[int, ...] = ()
    invalid: tuple[int, ...] = ()
    subnormal: tuple[int, ...] = ()
    broken: tuple[str, ...] = ()
    untrained: bool = False
    smallest_var: float = 0.0
    largest_var: float = 0.0

    TOLD = ("problems",)

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is not as it should be, a clause each, the gravest first."""
        return self.told("broken", "invalid", "subnormal", "untrained", "dead", "vanishing")

    def told(self, *kinds: str) -> tuple[str, ...]:
        """Return the clauses of some of the attributes, for those that have something to tell."""
        return tuple(clause for kind in kinds for clause in self._clauses(kind))

    def _clauses(self, kind: str) -> Iterator[str]:
        found = getattr(self, kind)
        if kind == "broken":
            yield from found
        elif found:
            yield CLAUSES[kind] + ("" if kind == "untrained" else f" in {self._some(found)}")

    def _some(self, channels: tuple[int, ...]) -> str:
        """Name channels: how many of how many, and the first few."""
        first = ", ".join(map(str, channels[:NAMED])) + ", ..." * (len(channels) > NAMED)
        return f"{len(channels)} of {self.channels} channels ({first})"


def health_of(node: Node) -> Health | None:
    """Look at the numbers of a BatchNormalization.

    Parameters
    ----------
    node : Node
        A ``BatchNormalization`` of the default domain.

    Returns
    -------
    Health or None
        None where a parameter is no constant, or they are not one a channel.
    """
    values: list[npt.NDArray[np.float64]] = []
    broken: list[str] = []
    kinds: list[int] = []
    for slot in range(1, 5):
        value = node.input(slot)
        # What a caller may override is what the model has, until somebody does.
        source = None if value is None else value.source or unless_blocked(constant_source, value)
        if value is None or source is None:
            return None
        array = source.load()
        flaw = flaw_of(f"its {PARAMETERS[slot - 1]} {value.name}", array)
        broken += [] if flaw is None else [str(flaw)]
        values.append(array.astype(np.float64).reshape(-1))
        kinds.append(source.data_type)
    scale, bias, mean, var = values
    if not scale.shape == bias.shape == mean.shape == var.shape or not scale.size:
        return None
    epsilon = epsilon_of(node)
    finite = np.where(np.isfinite(scale), np.abs(scale), 0)
    half = kinds[3] == TensorProto.FLOAT16
    with np.errstate(invalid="ignore"):
        invalid = (var < 0) | (var + epsilon <= 0)
        subnormal = half & ~invalid & (var < SMALLEST_HALF)
        vanishing = ~invalid & ~subnormal & (var <= epsilon)
        untrained = bool(scale.size > 1 and (mean == 0).all() and (var == 1).all())
    return Health(
        scale.size,
        _channels(np.isfinite(scale) & (finite <= DEAD * finite.max())),
        _channels(vanishing),
        _channels(invalid),
        _channels(subnormal),
        tuple(broken),
        untrained,
        float(var.min()),
        float(var.max()),
    )


def _channels(which: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(channel) for channel in np.flatnonzero(which))

"""What a proof by cut points found, as data."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field

_NAMED = 4  # nodes in a sentence

BY_SIZE = "depends on sizes that are open, and only a few sizes are tried"
NARROWER = "only one of the two models rounds to a narrower type"
BEYOND_TESTS = (BY_SIZE, NARROWER)
"""Why a region is not judged, where running both models on some inputs does not settle it."""

HIDES = "a tensor in its region differs slightly, and the region may hide that"
"""Why a region that was driven and is equal is no cut point."""


class Means(str, enum.Enum):
    """How the two forms of a region were told to be one function.

    MAPS: as affine maps, number by number. DRIVEN: with values on both sides of every kink.
    """

    MAPS = "maps"
    DRIVEN = "driven"


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a region is: tensors by their numbers in flat models.

    Attributes
    ----------
    tensor, original : int
        What both make, in the rewritten model and in the original.
    frontier : tuple of int
        What they make it of, in the rewritten model.
    is_scaled : bool
        See :class:`Region`.
    """

    tensor: int
    original: int
    frontier: tuple[int, ...]
    is_scaled: bool = False


@dataclass(frozen=True, slots=True)
class Region:
    """A tensor of the rewritten model, and what makes it in either model.

    Attributes
    ----------
    tensor, original : str
        Its name in the rewritten model, and that of the original's it was compared with.
    frontier : tuple of str
        The tensors that both regions begin with, by their names in the rewritten model.
    before, after : tuple of str
        The nodes: the original's, and the rewritten model's.
    means : Means or None
        None where nothing could be told.
    floors : float
        The largest deviation: of a number of a map in units of what rounding its constants does
        to it, of a channel that was driven in weight-rounding floors.
    element : str
        Where it is.
    channel : int or None
    reason : str
        Why it is not proved; empty where it is.
    is_apart : bool
        Whether it is plainly another function.
    is_near : bool
        Whether it is one by little: no step of a rewrite, which leaves a scale or a shift for
        later, but a fault that what is behind it may hide.
    is_partial : bool
        Whether a number of its weight is off, while others of the same channel are not, of what is
        made and of what is read, nor others at the same place of a window: no scale or shift.
    is_scaled : bool
        Whether it is the original's tensor but for a scale and a shift of each channel
        (:mod:`normswap.proof.scaled`); of a region that is proved.
    cut : Cut or None
        The same as `tensor`, `original` and `frontier`, beyond doubt; not part of the JSON.
    """

    tensor: str
    original: str
    frontier: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    means: Means | None = None
    floors: float = 0.0
    element: str = ""
    channel: int | None = None
    reason: str = ""
    is_apart: bool = False
    is_near: bool = False
    is_partial: bool = False
    is_scaled: bool = False
    cut: Cut | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """Tell a person where it differs."""
        places = (
            f"at {self.element}" if self.element else "",
            f"in channel {self.channel}" if self.channel is not None else "",
        )
        where = " ".join(filter(None, places))
        before, after = (_listed(nodes) for nodes in (self.before, self.after))
        return (
            f"{self.tensor!r}, computed by {after} in the rewritten model and by {before} in the "
            f"original: {where}{', ' if where else ''}{self.reason}"
        )

    @property
    def is_retouched(self) -> bool:
        """Whether the operators are the same, so that only their constants or attributes differ."""
        before, after = ([title.split()[0] for title in side] for side in (self.before, self.after))
        return before == after

    @property
    def size(self) -> int:
        """Number of nodes, of the larger of the two."""
        return max(len(self.before), len(self.after))


def _listed(nodes: tuple[str, ...]) -> str:
    more = len(nodes) - _NAMED
    return ", ".join(nodes[:_NAMED]) + (f" and {more} more" if more > 0 else "") or "a constant"


class Standing(str, enum.Enum):
    """What a proof says of an output.

    IDENTICAL: the same operators on the same constants. PROVED: equal, region by region. APART:
    equal but for regions that differ. OPEN: nothing.
    """

    IDENTICAL = "identical"
    PROVED = "proved"
    APART = "apart"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Output:
    """An output of the models, and what is known of it.

    Attributes
    ----------
    name : str
    standing : Standing
    reason : str
        Why it is open.
    """

    name: str
    standing: Standing
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Witness:
    """An output that differs in float64 on some input (:mod:`normswap.proof.witness`).

    Attributes
    ----------
    output : str
    off, largest : float
        The largest deviation, and the largest value of the original's.
    is_plain : bool
        Whether that is more than rounding the constants could make of it; of a proof with regions
        that differ, constants of these.
    """

    output: str
    off: float
    largest: float
    is_plain: bool

    @property
    def share(self) -> float:
        """The deviation, in parts of the largest value."""
        return self.off / self.largest if self.largest else math.inf

    def __str__(self) -> str:
        """Tell a person by how much."""
        return f"in float64 it differs by up to {self.off:.3g} (largest value {self.largest:.3g})"


@dataclass(frozen=True, slots=True)
class Proof:
    """What is proved of two models.

    Attributes
    ----------
    outputs : tuple of Output
    values, identical : int
        Tensors of the rewritten model that nodes make, and those that the same operators make of
        the same tensors in the original.
    regions : tuple of Region
        Those that were proved, in the rewritten model's order.
    apart : tuple of Region
        Those that differ, all else being equal.
    precision : str
        The type that all of the original was converted to, ``float16`` for example, if that is what
        the rewritten model is: then it is equal to within that type's rounding. Else empty.
    witness : Witness or None
        What shows that the models differ, where that was looked for.
    stopped : str
        Why it was stopped with something open or not shown, if it was.
    seconds : float
    reason : str
        Why there is no proof at all, where there is none.
    """

    outputs: tuple[Output, ...] = ()
    values: int = 0
    identical: int = 0
    regions: tuple[Region, ...] = ()
    apart: tuple[Region, ...] = ()
    precision: str = ""
    witness: Witness | None = None
    stopped: str = ""
    seconds: float = field(default=0.0, compare=False)
    reason: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether every output is proved."""
        proved = {Standing.IDENTICAL, Standing.PROVED}
        return bool(self.outputs) and all(output.standing in proved for output in self.outputs)

    @property
    def is_open(self) -> bool:
        """Whether nothing is known of some output."""
        return any(output.standing is Standing.OPEN for output in self.outputs)

    @property
    def fault(self) -> Region | None:
        """The region that is another function, if it is the only one, and no step of a rewrite.

        Such a one is off by little, or in part of a channel, or has the same operators as before.
        Where there is a second one, each may have what the other lacks: together they may be half a
        rewrite each.
        """
        if len(self.apart) != 1 or self.is_open:
            return None
        (region,) = self.apart
        return region if region.is_near or region.is_partial or region.is_retouched else None

    @property
    def largest(self) -> int:
        """Nodes of the largest region that was proved."""
        return max((region.size for region in self.regions), default=0)

    @property
    def floors(self) -> float:
        """The largest deviation of the regions that were proved."""
        return max((region.floors for region in self.regions), default=0.0)

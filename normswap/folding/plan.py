"""What a fold will do: every BatchNormalization once, with its route or with its reason.

A plan is data. It names nodes and tensors, so it can be printed, compared and serialized; that is
what a dry run shows. Its edits, which :mod:`normswap.folding.apply` carries out, ride along.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from normswap.plain import AsDict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.folding.edits import Edit
    from normswap.graph.normalization import Site
    from normswap.graph.reasons import Reason


@dataclass(frozen=True, slots=True)
class Step:
    """One operator on a route.

    Attributes
    ----------
    direction : str
        Whether the affine came from the operator's output (``"up"``) or input (``"down"``), or is
        on a branch parallel to it (``"beside"``).
    action : str
        What the operator did with it.
    op, node : str
        The operator, and what the node is called.
    tensor : str
        The tensor on which the affine came.
    note : str
        The formula.
    """

    direction: Literal["up", "down", "beside"]
    action: Literal["absorb", "carry"]
    op: str
    node: str
    tensor: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Folded:
    """A normalization that is folded, along a complete route."""

    site: Site
    route: tuple[Step, ...]
    added_nodes: int = 0

    @property
    def absorbers(self) -> tuple[Step, ...]:
        """The operators that take the affine in."""
        return tuple(step for step in self.route if step.action == "absorb")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A route that was tried and is blocked."""

    direction: str
    reason: Reason
    tensor: str
    detail: str
    trail: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """A normalization that stays.

    Attributes
    ----------
    reason : Reason
        What blocks it; if several routes are blocked, what blocks the first, which is the way up.
    tensor : str
        The tensor (or node) that the reason is about.
    detail : str
        The reason in words.
    attempts : tuple of Attempt
        Every route that was tried.
    form : {"keep", "affine", "normalize"}
        How it is written, see :mod:`normswap.folding.passes.leftovers`.
    """

    site: Site
    reason: Reason
    tensor: str
    detail: str
    attempts: tuple[Attempt, ...] = ()
    form: Literal["keep", "affine", "normalize"] = "keep"

    def tensor_of(self, reason: Reason) -> str | None:
        """Return what a reason is about that blocks it, or a route of it; None if it does not."""
        blocks = [(self.reason, self.tensor), *((a.reason, a.tensor) for a in self.attempts)]
        return next((tensor for why, tensor in blocks if why is reason), None)


@dataclass(frozen=True, slots=True)
class Merged:
    """A Conv that takes in what was added to it on parallel branches.

    Attributes
    ----------
    node : str
        What the Conv is called.
    graph : str
        Where it is, see :class:`normswap.graph.network.Graph`.
    branches : tuple of str
        The nodes that it takes in; the tensor itself where that was added.
    """

    node: str
    graph: str
    branches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """A constant of the model that is several after the fold: one for each that takes an affine in.

    Attributes
    ----------
    tensor : str
        The constant there was.
    copies : int
        How many there are of its size.
    added_bytes : int
        What they take more than the one.
    """

    tensor: str
    copies: int
    added_bytes: int


@dataclass(frozen=True, slots=True)
class Plan(AsDict):
    """What a fold will do to one model.

    Attributes
    ----------
    fingerprint : str
        Of the model that the plan is for, see :meth:`normswap.model.Model.fingerprint`.
    folded : tuple of Folded
    kept : tuple of Kept
    merged : tuple of Merged
    edits : tuple of Edit
        In the order in which they are made.
    added_bytes : int
        How much more space the constants take; negative if they take less.
    copied : tuple of Copied
        Why they take more, the largest first.
    assume_constant : bool
        Whether defaults of graph inputs were treated as constants; the inputs are removed with
        them.
    """

    fingerprint: str = field(repr=False)
    folded: tuple[Folded, ...]
    kept: tuple[Kept, ...]
    merged: tuple[Merged, ...] = ()
    edits: tuple[Edit, ...] = field(default=(), repr=False)
    added_bytes: int = 0
    copied: tuple[Copied, ...] = ()
    assume_constant: bool = field(default=False, repr=False)

    def about(self, name: str) -> tuple[Folded | Kept, ...]:
        """Return the entries that a name is about.

        Parameters
        ----------
        name : str
            Of a normalization or the tensor that it makes; else of a node or tensor that is on the
            route of one, or blocks it.
        """
        entries: tuple[Folded | Kept, ...] = (*self.folded, *self.kept)
        own = tuple(e for e in entries if name in (e.site.node, e.site.output))
        return own or tuple(e for e in entries if name in _mentioned(e))

    def names(self) -> frozenset[str]:
        """Return every name that :meth:`about` knows."""
        entries: tuple[Folded | Kept, ...] = (*self.folded, *self.kept)
        return frozenset(name for entry in entries for name in _mentioned(entry))


def _mentioned(entry: Folded | Kept) -> Iterator[str]:
    """Yield the names of the nodes and tensors that an entry is about."""
    yield from (entry.site.node, entry.site.output)
    steps = list(entry.route) if isinstance(entry, Folded) else []
    if isinstance(entry, Kept):
        yield entry.tensor
        for attempt in entry.attempts:
            yield attempt.tensor
            steps += attempt.trail
    for step in steps:
        yield from (step.node, step.tensor)
